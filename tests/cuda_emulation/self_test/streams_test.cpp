// The order of work in streams and between them, under every mode of progress.
#include <device/seam.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/self_test/device_array.h"

namespace switchyard::emulation {
namespace {

using cuda::launch;

__global__ void append(int* log /* [0] counts */, int value) {
  if (threadIdx.x == 0) log[++log[0]] = value;
}

class Streams : public testing::Test {
 protected:
  Streams() { log_.zero(); }
  ~Streams() override {
    set_progress(Progress::kImmediate);
    EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
  }

  void write(cudaStream_t stream, int value) { ok(launch(&append, {1, 32, 0, stream}, log_.data(), value)); }

  // What was written so far, without waiting for any stream of the test.
  std::vector<int> written() {
    const std::vector<int> host = log_.host();
    return {host.begin() + 1, host.begin() + 1 + host[0]};
  }

  DeviceArray<int> log_{100};
};

class Event {
 public:
  explicit Event(unsigned flags = cudaEventDisableTiming) { ok(cudaEventCreateWithFlags(&event_, flags)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

TEST_F(Streams, ImmediateWorkIsDoneWhenItIsEnqueued) {
  const TestStream stream;
  write(stream, 1);
  EXPECT_EQ(written(), std::vector<int>{1});
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
}

TEST_F(Streams, DeferredWorkWaitsForASynchronisation) {
  set_progress(Progress::kDeferred);
  const TestStream first, second;
  write(first, 1);
  write(second, 2);
  write(second, 3);
  EXPECT_TRUE(written().empty());
  ok(cudaStreamSynchronize(second));
  EXPECT_EQ(written(), (std::vector<int>{2, 3})) << "the other stream had no reason to run";
  ok(cudaDeviceSynchronize());
  EXPECT_EQ(written(), (std::vector<int>{2, 3, 1}));
}

TEST_F(Streams, PollingComesToAnEnd) {
  set_progress(Progress::kDeferred);
  const TestStream stream;
  const Event event;
  write(stream, 1);
  ok(cudaEventRecord(event, stream));
  write(stream, 2);
  int queries = 0;
  while (cudaEventQuery(event) == cudaErrorNotReady) ++queries;
  EXPECT_GT(queries, 0);
  EXPECT_EQ(written(), std::vector<int>{1});
  while (cudaStreamQuery(stream) == cudaErrorNotReady) ++queries;
  EXPECT_EQ(written(), (std::vector<int>{1, 2}));
}

TEST_F(Streams, AWaitRunsWhatItWaitsForAndNoMore) {
  set_progress(Progress::kDeferred);
  const TestStream first, second;
  const Event event;
  write(first, 1);
  ok(cudaEventRecord(event, first));
  write(first, 2);
  ok(cudaStreamWaitEvent(second, event, 0));
  write(second, 3);
  ok(cudaStreamSynchronize(second));
  EXPECT_EQ(written(), (std::vector<int>{1, 3}));
}

TEST_F(Streams, AWaitIsForTheRecordThatWasTheLast) {
  set_progress(Progress::kDeferred);
  const TestStream first, second, third;
  const Event event;
  ok(cudaStreamWaitEvent(third, event, 0));  // recorded by nobody: nothing to wait for
  write(first, 1);
  ok(cudaEventRecord(event, first));
  ok(cudaStreamWaitEvent(third, event, 0));
  write(second, 2);
  ok(cudaEventRecord(event, second));
  ok(cudaStreamSynchronize(second));
  write(third, 3);
  ok(cudaStreamSynchronize(third));
  EXPECT_EQ(written(), (std::vector<int>{2, 1, 3})) << "the later record, done already, is not what the third stream waits for";
}

TEST_F(Streams, DestroyingHandlesStopsNothing) {
  set_progress(Progress::kDeferred);
  const TestStream second;
  {
    const TestStream first;
    const Event event;
    write(first, 1);
    ok(cudaEventRecord(event, first));
    ok(cudaStreamWaitEvent(second, event, 0));
  }
  EXPECT_TRUE(written().empty()) << "destroying does not wait";
  write(second, 2);
  ok(cudaStreamSynchronize(second));
  EXPECT_EQ(written(), (std::vector<int>{1, 2}));
}

TEST_F(Streams, TheDefaultStreamIsOrderedWithBlockingOnes) {
  set_progress(Progress::kDeferred);
  cudaStream_t blocking = nullptr;
  ok(cudaStreamCreate(&blocking));
  write(blocking, 1);
  write(nullptr, 2);
  write(blocking, 3);
  ok(cudaStreamSynchronize(blocking));
  EXPECT_EQ(written(), (std::vector<int>{1, 2, 3}));
  ok(cudaStreamDestroy(blocking));
}

TEST_F(Streams, SeedsRunWorkEarlierButNeverOutOfOrder) {
  bool early = false;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    set_progress(Progress::kDeferred, seed);
    log_.zero();
    const TestStream first, second;
    const Event event;
    for (int i = 1; i <= 3; ++i) write(first, i);
    ok(cudaEventRecord(event, first));
    ok(cudaStreamWaitEvent(second, event, 0));
    write(second, 4);
    early = early || !written().empty();
    ok(cudaStreamSynchronize(second));
    EXPECT_EQ(written(), (std::vector<int>{1, 2, 3, 4})) << "seed " << seed;
  }
  EXPECT_TRUE(early) << "no seed ran anything before the synchronisation";
}

TEST_F(Streams, HostFunctionsRunInTheirTurn) {
  set_progress(Progress::kDeferred);
  const TestStream stream;
  std::vector<int> order;
  const auto first = [](void* data) { static_cast<std::vector<int>*>(data)->push_back(1); };
  const auto second = [](void* data) { static_cast<std::vector<int>*>(data)->push_back(2); };
  ok(cudaLaunchHostFunc(stream, first, &order));
  ok(cudaLaunchHostFunc(stream, second, &order));
  EXPECT_TRUE(order.empty());
  ok(cudaStreamSynchronize(stream));
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST_F(Streams, TimeGoesForward) {
  const TestStream stream;
  const Event begin(cudaEventDefault), end(cudaEventDefault), untimed;
  ok(cudaEventRecord(begin, stream));
  write(stream, 1);
  ok(cudaEventRecord(end, stream));
  float milliseconds = -1;
  ok(cudaEventElapsedTime(&milliseconds, begin, end));
  EXPECT_GE(milliseconds, 0.0f);
  ok(cudaEventRecord(untimed, stream));
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, untimed), cudaErrorInvalidResourceHandle);
}

TEST_F(Streams, HandlesThatAreGoneAreRefused) {
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  ok(cudaStreamCreate(&stream));
  ok(cudaStreamDestroy(stream));
  ok(cudaEventCreate(&event));
  ok(cudaEventDestroy(event));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(event, nullptr), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamWaitEvent(nullptr, event, 0), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(launch(&append, {1, 32, 0, stream}, log_.data(), 1), cudaErrorInvalidResourceHandle);
}

}  // namespace
}  // namespace switchyard::emulation
