// What every lane receives from the operations of a warp, against the programming guide's words as loops.
#include <device/seam.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/self_test/device_array.h"

namespace switchyard::emulation {
namespace {

using cuda::launch;

constexpr unsigned kAll = 0xffffffffu;

enum Shuffle { kIndex, kUp, kDown, kXor };

__global__ void shuffle_lanes(int* out /* [32] */, int shuffle, int argument, int width) {
  const int lane = static_cast<int>(threadIdx.x);
  const int value = 100 + lane;
  int received = 0;
  if (shuffle == kIndex) received = __shfl_sync(kAll, value, argument, width);
  if (shuffle == kUp) received = __shfl_up_sync(kAll, value, static_cast<unsigned>(argument), width);
  if (shuffle == kDown) received = __shfl_down_sync(kAll, value, static_cast<unsigned>(argument), width);
  if (shuffle == kXor) received = __shfl_xor_sync(kAll, value, argument, width);
  out[lane] = received;
}

int source(int lane, int shuffle, int argument, int width) {
  const int first = lane / width * width;
  const int sources[] = {first + argument % width, lane - argument, lane + argument, lane ^ argument};
  const int from = sources[shuffle];
  if (shuffle == kUp) return from < first ? lane : from;
  return from >= first + width ? lane : from;
}

TEST(Warp, ShufflesReadTheLanesThatTheGuideSays) {
  DeviceArray<int> out(32);
  for (const Order order : {Order::kForward, Order::kReverse, Order::kRandom, Order::kWarpAhead, Order::kWarpAheadReverse}) {
    set_schedule({order, 5});
    for (const int shuffle : {kIndex, kUp, kDown, kXor}) {
      for (const int width : {2, 8, 32}) {
        for (const int argument : {0, 1, 3, 8, 16, 31}) {
          ok(launch(&shuffle_lanes, {1, 32}, out.data(), shuffle, argument, width));
          const std::vector<int> host = out.host();
          for (int lane = 0; lane < 32; ++lane) {
            EXPECT_EQ(host[static_cast<size_t>(lane)], 100 + source(lane, shuffle, argument, width))
                << "lane " << lane << " of shuffle " << shuffle << " by " << argument << " in width " << width;
          }
        }
      }
    }
  }
  set_schedule({});
}

__global__ void votes(unsigned* out /* [32, 4] */, unsigned chosen) {
  const unsigned lane = threadIdx.x;
  const int mine = static_cast<int>(chosen >> lane & 1u);
  out[4 * lane] = __ballot_sync(kAll, mine);
  out[4 * lane + 1] = static_cast<unsigned>(__any_sync(kAll, mine));
  out[4 * lane + 2] = static_cast<unsigned>(__all_sync(kAll, mine));
  out[4 * lane + 3] = __match_any_sync(kAll, lane % 5);
}

TEST(Warp, VotesAndMatches) {
  DeviceArray<unsigned> out(32 * 4);
  for (const unsigned chosen : {0u, 0x80000001u, kAll}) {
    ok(launch(&votes, {1, 32}, out.data(), chosen));
    const std::vector<unsigned> host = out.host();
    for (unsigned lane = 0; lane < 32; ++lane) {
      unsigned same = 0;
      for (unsigned other = 0; other < 32; ++other) same |= (other % 5 == lane % 5 ? 1u : 0u) << other;
      const std::vector<unsigned> expected = {chosen, chosen != 0 ? 1u : 0u, chosen == kAll ? 1u : 0u, same};
      EXPECT_EQ(std::vector<unsigned>(host.begin() + 4 * lane, host.begin() + 4 * lane + 4), expected) << "lane " << lane;
    }
  }
}

// Two halves of a warp go their own ways, one of them through more operations than the other.
__global__ void halves(int* out /* [32] */) {
  const int lane = static_cast<int>(threadIdx.x);
  int value = lane;
  if (lane < 16) {
    for (int distance = 8; distance > 0; distance /= 2) value += __shfl_xor_sync(0x0000ffffu, value, distance);
  } else {
    value = __shfl_sync(0xffff0000u, value, 31);
  }
  out[lane] = value;
}

TEST(Warp, DisjointMasksDoNotWaitForOneAnother) {
  DeviceArray<int> out(32);
  for (const Order order : {Order::kForward, Order::kReverse, Order::kRandom, Order::kWarpAhead, Order::kWarpAheadReverse}) {
    set_schedule({order, 1});
    ok(launch(&halves, {1, 32}, out.data()));
    const std::vector<int> host = out.host();
    for (size_t lane = 0; lane < 32; ++lane) EXPECT_EQ(host[lane], lane < 16 ? 120 : 31) << lane;
  }
  set_schedule({});
}

__global__ void of_types(double* doubles, float2* pairs) {
  const double value = 0.1 * threadIdx.x;
  doubles[threadIdx.x] = __shfl_xor_sync(kAll, value, 1);
  const __nv_bfloat162 pair = __float22bfloat162_rn(make_float2(static_cast<float>(threadIdx.x), 0.5f));
  pairs[threadIdx.x] = __bfloat1622float2(__shfl_xor_sync(kAll, pair, 1));
}

TEST(Warp, ShufflesEightBytesAndPairsOfBfloat16) {
  DeviceArray<double> doubles(32);
  DeviceArray<float2> pairs(32);
  ok(launch(&of_types, {1, 32}, doubles.data(), pairs.data()));
  const std::vector<float2> received = pairs.host();
  for (size_t lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(doubles.host()[lane], 0.1 * static_cast<double>(lane ^ 1));
    EXPECT_EQ(received[lane].x, static_cast<float>(lane ^ 1));
    EXPECT_EQ(received[lane].y, 0.5f);
  }
}

// The last warp of a block may have fewer lanes: its mask names those only.
__global__ void short_warp(unsigned* out) { out[threadIdx.x] = __ballot_sync(threadIdx.x < 32 ? kAll : 0xffu, 1); }

TEST(Warp, TheLastOneMayBeShort) {
  DeviceArray<unsigned> out(40);
  ok(launch(&short_warp, {1, 40}, out.data()));
  EXPECT_EQ(out.host()[0], kAll);
  EXPECT_EQ(out.host()[39], 0xffu);
}

}  // namespace
}  // namespace switchyard::emulation
