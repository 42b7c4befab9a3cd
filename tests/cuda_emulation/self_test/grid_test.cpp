// Right kernels: what a thread sees of the grid, and the same bits in every order.
#include <device/schedules.h>
#include <device/seam.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/self_test/device_array.h"
#include "tests/cuda_emulation/self_test/slots.h"

namespace switchyard::emulation {
namespace {

using cuda::launch;

__global__ void write_place(int* place /* [grid x block, 9] */) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  int* own = place + 9 * (block * blockDim.x * blockDim.y * blockDim.z + thread);
  const unsigned values[] = {threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z, blockDim.x, gridDim.y, static_cast<unsigned>(warpSize)};
  for (int i = 0; i < 9; ++i) own[i] = static_cast<int>(values[i]);
}

TEST(Grid, EveryThreadOfEveryBlockRunsOnceAndKnowsItsPlace) {
  const dim3 grid(2, 3, 2), block(5, 2, 4);
  DeviceArray<int> places(12 * 40 * 9);
  ok(launch(&write_place, {grid, block}, places.data()));
  const std::vector<int> host = places.host();
  for (size_t i = 0; i < 12 * 40; ++i) {
    const int thread = static_cast<int>(i) % 40, b = static_cast<int>(i) / 40;
    const std::vector<int> expected = {thread % 5, thread / 5 % 2, thread / 10, b % 2, b / 2 % 3, b / 6, 5, 3, 32};
    EXPECT_EQ(std::vector<int>(host.begin() + 9 * static_cast<long>(i), host.begin() + 9 * static_cast<long>(i + 1)), expected) << "thread " << i;
  }
}

#if !defined(__SANITIZE_THREAD__)  // append is a race
__global__ void append(int* order, int* count) { order[(*count)++] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

std::vector<int> order_under(Schedule schedule) {
  set_schedule(schedule);
  DeviceArray<int> order(12), count(1);
  count.zero();
  ok(launch(&append, {3, 4}, order.data(), count.data()));
  ok(cudaDeviceSynchronize());
  set_schedule({});
  return order.host();
}

TEST(Grid, TakesThreadsAndBlocksInTheOrderOfTheSchedule) {
  const std::vector<int> forward = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  EXPECT_EQ(order_under({}), forward);
  EXPECT_EQ(order_under({Order::kReverse}), std::vector<int>(forward.rbegin(), forward.rend()));
  const std::vector<int> random = order_under({Order::kRandom, 3});
  EXPECT_EQ(random, order_under({Order::kRandom, 3})) << "the same seed, the same order";
  EXPECT_NE(random, order_under({Order::kRandom, 4}));
  EXPECT_TRUE(std::is_permutation(random.begin(), random.end(), forward.begin()));
}
#endif

__global__ void vote(int* out /* [3] */, int of) {
  const int mine = static_cast<int>(threadIdx.x) < of ? 1 : 0;
  const int count = __syncthreads_count(mine);
  const int all = __syncthreads_and(mine);
  const int any = __syncthreads_or(mine);
  if (threadIdx.x == 17) out[0] = count;
  if (threadIdx.x == 0) out[1] = all;
  if (threadIdx.x == 63) out[2] = any;
}

TEST(Grid, BarriersVote) {
  DeviceArray<int> out(3);
  for (const int of : {0, 1, 33, 64}) {
    ok(launch(&vote, {1, 64}, out.data(), of));
    EXPECT_EQ(out.host(), (std::vector<int>{of, of == 64 ? 1 : 0, of > 0 ? 1 : 0})) << of;
  }
}

struct Plan {
  std::vector<int> slot, count;
  bool operator==(const Plan&) const = default;
};

Plan plan(const std::vector<int>& experts_of_tokens, int experts, int capacity) {
  const int tokens = static_cast<int>(experts_of_tokens.size());
  DeviceArray<int> expert(experts_of_tokens), slot(experts_of_tokens.size()), count(static_cast<size_t>(experts));
  DeviceArray<int> scratch(static_cast<size_t>(cuda::tiles(tokens) * experts));
  const TestStream stream;
  ok(cuda::plan_slots(expert.data(), tokens, experts, capacity, {slot.data(), count.data(), scratch.data()}, stream));
  ok(cudaStreamSynchronize(stream));
  return {slot.host(), count.host()};
}

Plan plan_on_host(const std::vector<int>& experts_of_tokens, int experts, int capacity) {
  Plan plan{{}, std::vector<int>(static_cast<size_t>(experts))};
  for (const int expert : experts_of_tokens) {
    const int position = plan.count[static_cast<size_t>(expert)]++;
    plan.slot.push_back(position < capacity ? position : -1);
  }
  return plan;
}

// Sizes at which every loop of the kernels runs at least twice, but where race detection makes that slow.
TEST(Grid, AKernelOfThreePhasesGivesTheSameBitsInEveryOrder) {
#if defined(__SANITIZE_THREAD__)
  constexpr int kMost = 700;
#else
  constexpr int kMost = 256 * 257 + 3;
#endif
  std::mt19937 draw(7);
  for (const auto& [tokens, experts] : {std::pair{1, 1}, std::pair{1000, 33}, std::pair{kMost, 2}}) {
    std::vector<int> expert(static_cast<size_t>(tokens));
    for (int& e : expert) e = static_cast<int>(draw() % static_cast<unsigned>(experts));
    const auto on_device = [&] { return plan(expert, experts, tokens / experts); };
    EXPECT_TRUE(cuda::same_under_every_schedule(on_device) == plan_on_host(expert, experts, tokens / experts)) << tokens << " tokens";
  }
}

__global__ void leave_before(float* out, int first) {
  if (static_cast<int>(threadIdx.x) < first) return;
  __syncthreads();
  out[threadIdx.x] = 1.0f;
}

TEST(Grid, AFaultBreaksTheDeviceUntilItIsReset) {
  DeviceArray<float> out(64);
  EXPECT_EQ(launch(&leave_before, {1, 64}, out.data(), 5), cudaErrorLaunchFailure);
  EXPECT_EQ(launch(&leave_before, {1, 64}, out.data(), 0), cudaErrorLaunchFailure) << "every later call reports it";
  EXPECT_NE(std::string(cudaGetErrorString(cudaErrorLaunchFailure)).find("grid_test.cpp"), std::string::npos) << cudaGetErrorString(cudaErrorLaunchFailure);
  ok(cudaDeviceReset());
  ok(launch(&leave_before, {1, 64}, out.data(), 0));
  EXPECT_EQ(out.host()[63], 1.0f);
}

TEST(Grid, CountsWhatItDid) {
  const Statistics before = statistics();
  DeviceArray<int> out(3);
  ok(launch(&vote, {2, 64}, out.data(), 1));
  const Statistics after = statistics();
  EXPECT_EQ(after.grids - before.grids, 1u);
  EXPECT_EQ(after.blocks - before.blocks, 2u);
  EXPECT_EQ(after.threads - before.threads, 128u);
  EXPECT_EQ(after.barriers - before.barriers, 6u);
}

}  // namespace
}  // namespace switchyard::emulation
