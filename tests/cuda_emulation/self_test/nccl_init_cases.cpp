// Making and ending communicators.
#include "tests/cuda_emulation/self_test/nccl_ranks.h"

namespace switchyard::emulation {
namespace {

int sum_of_ranks(ncclComm_t comm) {
  DeviceArray<int> value(std::vector<int>{my_rank()});
  const TestStream stream;
  good(ncclAllReduce(value.data(), value.data(), 1, ncclInt32, ncclSum, comm, stream));
  ok(cudaStreamSynchronize(stream));
  return value.host()[0];
}

TEST(NcclInit, KnowsItsRanks) {
  const Communicator comm;
  int count = 0, rank = -1;
  good(ncclCommCount(comm, &count));
  good(ncclCommUserRank(comm, &rank));
  EXPECT_EQ(count, ranks());
  EXPECT_EQ(rank, my_rank());
  EXPECT_EQ(sum_of_ranks(comm), ranks() * (ranks() - 1) / 2);
}

TEST(NcclInit, CommunicatorsDoNotMixTheirMessages) {
  const Communicator first, second;
  DeviceArray<int> a(std::vector<int>{1}), b(std::vector<int>{10});
  const TestStream stream_a, stream_b;
  set_progress(Progress::kDeferred, static_cast<uint64_t>(my_rank()) + 1);
  good(ncclAllReduce(a.data(), a.data(), 1, ncclInt32, ncclSum, first, stream_a));
  good(ncclAllReduce(b.data(), b.data(), 1, ncclInt32, ncclSum, second, stream_b));
  // Every other rank waits for the second first.
  ok(cudaStreamSynchronize(my_rank() % 2 == 0 ? stream_a : stream_b));
  ok(cudaDeviceSynchronize());
  set_progress(Progress::kImmediate);
  EXPECT_EQ(a.host()[0], ranks());
  EXPECT_EQ(b.host()[0], 10 * ranks());
}

TEST(NcclInit, SplitsByColourAndOrdersByKey) {
  const Communicator all;
  ncclComm_t part = nullptr;
  good(ncclCommSplit(all, my_rank() % 2, -my_rank(), &part, nullptr));  // even and odd ranks, the highest first
  const Communicator owner(part);
  int count = 0, rank = -1;
  good(ncclCommCount(part, &count));
  good(ncclCommUserRank(part, &rank));
  const int mine = (ranks() + 1 - my_rank() % 2) / 2;
  EXPECT_EQ(count, mine);
  EXPECT_EQ(rank, mine - 1 - my_rank() / 2);
  int expected = 0;
  for (int other = my_rank() % 2; other < ranks(); other += 2) expected += other;
  EXPECT_EQ(sum_of_ranks(part), expected);
}

TEST(NcclInit, ARankWithoutColourGetsNone) {
  const Communicator all;
  ncclComm_t part = nullptr;
  good(ncclCommSplit(all, my_rank() == 0 ? NCCL_SPLIT_NOCOLOR : 3, 0, &part, nullptr));
  EXPECT_EQ(part == nullptr, my_rank() == 0);
  const Communicator owner(part);
  if (part != nullptr) {
    EXPECT_EQ(sum_of_ranks(part), ranks() * (ranks() - 1) / 2);
  }
}

TEST(NcclInit, RefusesRanksThatDisagree) {
  ncclComm_t comm = nullptr;
  const ncclUniqueId id = shared_id();
  EXPECT_EQ(ncclCommInitRankConfig(&comm, ranks(), id, ranks(), nullptr), ncclInvalidArgument);
  if (ranks() == 1) return;
  EXPECT_EQ(ncclCommInitRankConfig(&comm, ranks(), id, 0, nullptr), ncclInvalidArgument) << "every rank says that it is rank 0";
  ncclCommDestroy(comm);
}

// Polls until the communicator is no longer in progress; how often it was.
int settle(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  int polls = 0;
  while (state == ncclInProgress) {
    good(ncclCommGetAsyncError(comm, &state));
    ++polls;
  }
  good(state);
  return polls;
}

ncclConfig_t not_blocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

TEST(NcclInit, ThatDoesNotBlockLaunchesOnlyWhenItIsAsked) {
  ncclConfig_t config = not_blocking();
  ncclComm_t comm = nullptr;
  ASSERT_EQ(ncclCommInitRankConfig(&comm, ranks(), shared_id(), my_rank(), &config), ncclInProgress);
  const Communicator owner(comm);
  DeviceArray<int> value(std::vector<int>{1});
  const TestStream stream;
  EXPECT_EQ(ncclAllReduce(value.data(), value.data(), 1, ncclInt32, ncclSum, comm, stream), ncclInvalidUsage) << "it is still being made";
  settle(comm);
  ASSERT_EQ(ncclAllReduce(value.data(), value.data(), 1, ncclInt32, ncclSum, comm, stream), ncclInProgress);
  ok(cudaStreamSynchronize(stream));
  EXPECT_EQ(value.host()[0], 1) << "the stream holds nothing yet";
  settle(comm);
  ok(cudaStreamSynchronize(stream));
  EXPECT_EQ(value.host()[0], ranks());
}

TEST(NcclInit, AnAbortEndsWhatNoPeerAnswers) {
  ncclConfig_t config = not_blocking();
  ncclComm_t comm = nullptr;
  ASSERT_EQ(ncclCommInitRankConfig(&comm, ranks(), shared_id(), my_rank(), &config), ncclInProgress);
  settle(comm);
  const TestStream stream;
  DeviceArray<int> value(1);
  cudaEvent_t event = nullptr;
  ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  ASSERT_EQ(ncclRecv(value.data(), 1, ncclInt32, my_rank(), comm, stream), ncclInProgress);  // nobody sends
  settle(comm);
  ok(cudaEventRecord(event, stream));
  for (int query = 0; query < 100; ++query) ASSERT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  good(ncclCommAbort(comm));
  ok(cudaStreamSynchronize(stream));
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(value.host()[0], -1) << "nothing was received";
  ok(cudaEventDestroy(event));
}

}  // namespace
}  // namespace switchyard::emulation
