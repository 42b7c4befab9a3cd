// Collectives, groups, and what is refused.
#include <cuda_bf16.h>
#include <device/seam.h>

#include <vector>

#include "tests/cuda_emulation/self_test/nccl_ranks.h"

namespace switchyard::emulation {
namespace {

using cuda::launch;

// Element i of what rank r gives.
float given(int rank, int i) { return static_cast<float>(rank * 100 + i); }

std::vector<float> gift(int rank, int count) {
  std::vector<float> values;
  for (int i = 0; i < count; ++i) values.push_back(given(rank, i));
  return values;
}

constexpr int kCount = 5;

TEST(Nccl, ReducesInTheOrderOfTheRanks) {
  under_every_progress([] {
    const Communicator comm;
    const TestStream stream;
    const DeviceArray<float> source(gift(my_rank(), kCount)), sum(kCount), most(kCount), mean(kCount);
    good(ncclAllReduce(source.data(), sum.data(), kCount, ncclFloat32, ncclSum, comm, stream));
    good(ncclAllReduce(source.data(), most.data(), kCount, ncclFloat32, ncclMax, comm, stream));
    good(ncclAllReduce(source.data(), mean.data(), kCount, ncclFloat32, ncclAvg, comm, stream));
    ok(cudaStreamSynchronize(stream));
    for (int i = 0; i < kCount; ++i) {
      float expected = given(0, i);
      for (int rank = 1; rank < ranks(); ++rank) expected += given(rank, i);
      EXPECT_EQ(sum.host()[static_cast<size_t>(i)], expected);
      EXPECT_EQ(most.host()[static_cast<size_t>(i)], given(ranks() - 1, i));
      EXPECT_EQ(mean.host()[static_cast<size_t>(i)], expected / static_cast<float>(ranks()));
    }
  });
}

// 256 + 1 + 1 + 1 is 259 in f32 and 260 in bf16; rounded after each addition it would be 256.
TEST(Nccl, ReducesBfloat16InF32) {
  const Communicator comm;
  const TestStream stream;
  const DeviceArray<__nv_bfloat16> value(std::vector<__nv_bfloat16>{__nv_bfloat16(my_rank() == 0 ? 256.0f : 1.0f)});
  good(ncclAllReduce(value.data(), value.data(), 1, ncclBfloat16, ncclSum, comm, stream));
  ok(cudaStreamSynchronize(stream));
  const float exact = 255.0f + static_cast<float>(ranks());
  EXPECT_EQ(static_cast<float>(value.host()[0]), static_cast<float>(__nv_bfloat16(exact)));
}

TEST(Nccl, GathersScattersBroadcastsAndExchanges) {
  under_every_progress([] {
    const Communicator comm;
    const TestStream stream;
    const auto all = static_cast<size_t>(ranks());
    const DeviceArray<float> own(gift(my_rank(), kCount)), wide(gift(my_rank(), kCount * ranks()));
    const DeviceArray<float> gathered(kCount * all), scattered(kCount), broadcast(kCount), exchanged(kCount * all);
    const int root = ranks() - 1;
    good(ncclAllGather(own.data(), gathered.data(), kCount, ncclFloat32, comm, stream));
    good(ncclReduceScatter(wide.data(), scattered.data(), kCount, ncclFloat32, ncclSum, comm, stream));
    good(ncclBroadcast(own.data(), broadcast.data(), kCount, ncclFloat32, root, comm, stream));
    good(ncclAlltoAll(wide.data(), exchanged.data(), kCount, ncclFloat32, comm, stream));
    ok(cudaStreamSynchronize(stream));
    for (int i = 0; i < kCount; ++i) {
      const auto at = static_cast<size_t>(i);
      float sum = 0;
      for (int rank = 0; rank < ranks(); ++rank) {
        const auto behind = static_cast<size_t>(rank * kCount + i);
        EXPECT_EQ(gathered.host()[behind], given(rank, i));
        EXPECT_EQ(exchanged.host()[behind], given(rank, my_rank() * kCount + i));
        sum += given(rank, my_rank() * kCount + i);
      }
      EXPECT_EQ(scattered.host()[at], sum);
      EXPECT_EQ(broadcast.host()[at], given(root, i));
    }
  });
}

__global__ void add_one(float* values, int count) {
  if (static_cast<int>(threadIdx.x) < count) values[threadIdx.x] += 1.0f;
}

// A step in miniature: a kernel, an exchange of uneven counts on another stream, a kernel on what arrived.
TEST(Nccl, GroupsExchangeUnevenCountsBetweenStreams) {
  under_every_progress([] {
    const Communicator comm;
    const TestStream compute, traffic;
    const auto count = [](int from, int to) { return (from + 2 * to) % 3; };  // 0 too
    const DeviceArray<float> outbox(gift(my_rank(), 16)), inbox(16);
    cudaEvent_t ready = nullptr, arrived = nullptr;
    ok(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming));
    ok(cudaEventCreateWithFlags(&arrived, cudaEventDisableTiming));
    ok(launch(&add_one, {1, 32, 0, compute}, outbox.data(), 16));
    ok(cudaEventRecord(ready, compute));
    ok(cudaStreamWaitEvent(traffic, ready, 0));
    good(ncclGroupStart());
    for (int peer = 0, sent = 0, expected = 0; peer < ranks(); ++peer) {
      good(ncclSend(outbox.data() + sent, static_cast<size_t>(count(my_rank(), peer)), ncclFloat32, peer, comm, traffic));
      good(ncclRecv(inbox.data() + expected, static_cast<size_t>(count(peer, my_rank())), ncclFloat32, peer, comm, traffic));
      sent += count(my_rank(), peer);
      expected += count(peer, my_rank());
    }
    good(ncclGroupEnd());
    ok(cudaEventRecord(arrived, traffic));
    ok(cudaStreamWaitEvent(compute, arrived, 0));
    ok(launch(&add_one, {1, 32, 0, compute}, inbox.data(), 16));
    ok(cudaStreamSynchronize(compute));
    const std::vector<float> found = inbox.host();
    size_t at = 0;
    for (int peer = 0; peer < ranks(); ++peer) {
      int before = 0;
      for (int to = 0; to < my_rank(); ++to) before += count(peer, to);
      for (int i = 0; i < count(peer, my_rank()); ++i) EXPECT_EQ(found[at++], given(peer, before + i) + 2.0f);
    }
    ok(cudaEventDestroy(ready));
    ok(cudaEventDestroy(arrived));
  });
}

TEST(Nccl, MessagesOfAPairArriveInTheOrderOfTheCalls) {
  if (ranks() == 1) return;  // a rank alone has no peer
  under_every_progress([] {
    const Communicator comm;
    const TestStream first, second;
    const int peer = my_rank() ^ 1;
    const DeviceArray<float> a(gift(my_rank(), 1)), b(gift(my_rank() + 50, 1)), from_a(1), from_b(1);
    good(ncclGroupStart());
    good(ncclSend(a.data(), 1, ncclFloat32, peer, comm, first));
    good(ncclRecv(from_a.data(), 1, ncclFloat32, peer, comm, first));
    good(ncclSend(b.data(), 1, ncclFloat32, peer, comm, second));
    good(ncclRecv(from_b.data(), 1, ncclFloat32, peer, comm, second));
    good(ncclGroupEnd());
    ok(cudaDeviceSynchronize());
    EXPECT_EQ(from_a.host()[0], given(peer, 0));
    EXPECT_EQ(from_b.host()[0], given(peer + 50, 0));
  });
}

// What NCCL would answer with a hang or rubbish.
void expect_complaint(const char* part, const std::function<void(ncclComm_t, cudaStream_t)>& wrong) {
  const Communicator comm;
  const TestStream stream;
  set_progress(Progress::kDeferred);  // so that the call itself has nothing to complain of yet
  wrong(comm, stream);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_NE(std::string(cudaGetErrorString(cudaErrorLaunchFailure)).find(part), std::string::npos) << cudaGetErrorString(cudaErrorLaunchFailure);
  ncclResult_t state = ncclSuccess;
  good(ncclCommGetAsyncError(comm, &state));
  EXPECT_EQ(state, ncclInvalidUsage);
  ok(cudaDeviceReset());
  set_progress(Progress::kImmediate);
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST(Nccl, CountsThatDifferAreASentence) {
  const DeviceArray<float> source(8), target(8);
  expect_complaint("expects ncclSend of 12 bytes", [&](ncclComm_t comm, cudaStream_t stream) {
    good(ncclGroupStart());
    good(ncclSend(source.data(), 2, ncclFloat32, my_rank() == ranks() - 1 ? 0 : my_rank() + 1, comm, stream));
    good(ncclRecv(target.data(), 3, ncclFloat32, my_rank() == 0 ? ranks() - 1 : my_rank() - 1, comm, stream));
    good(ncclGroupEnd());
  });
}

TEST(Nccl, CollectivesThatDifferAreASentence) {
  if (ranks() == 1) return;  // a rank alone agrees with itself
  const DeviceArray<float> source(4), target(16);
  expect_complaint("which issued nccl", [&](ncclComm_t comm, cudaStream_t stream) {
    if (my_rank() == 0) good(ncclAllGather(source.data(), target.data(), 4, ncclFloat32, comm, stream));
    if (my_rank() != 0) good(ncclAllReduce(source.data(), target.data(), 4, ncclFloat32, ncclSum, comm, stream));
  });
}

TEST(Nccl, OperandsAreChecked) {
  const Communicator comm;
  const TestStream stream;
  const DeviceArray<float> device(4);
  float host[4] = {};
  EXPECT_EQ(ncclSend(host, 1, ncclFloat32, 0, comm, stream), ncclInvalidArgument) << "memory of the host";
  EXPECT_EQ(ncclSend(device.data(), 5, ncclFloat32, 0, comm, stream), ncclInvalidArgument) << "past the end";
  EXPECT_EQ(ncclSend(device.data(), 1, ncclFloat32, ranks(), comm, stream), ncclInvalidArgument) << "no such peer";
  EXPECT_EQ(ncclAllGather(device.data(), device.data(), 5, ncclFloat32, comm, stream), ncclInvalidArgument);
  EXPECT_EQ(ncclAllReduce(device.data(), device.data(), 1, ncclInt8, ncclSum, comm, stream), ncclInvalidArgument) << "not reduced here";
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
  EXPECT_EQ(ncclSend(device.data(), 1, ncclFloat32, 0, nullptr, stream), ncclInvalidArgument);
}

}  // namespace
}  // namespace switchyard::emulation
