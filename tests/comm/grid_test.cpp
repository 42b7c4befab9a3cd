// Who does what: every lane and every expert has one rank, whatever their numbers are.
#include "comm/grid.h"

#include <gtest/gtest.h>

#include <vector>

namespace switchyard {
namespace {

TEST(Grid, GivesEveryExpertOneRankInRankOrder) {
  for (int size = 1; size <= 8; ++size) {
    for (const int experts : {1, 2, 3, 6, 8, 17}) {
      int next = 0;
      for (int rank = 0; rank < size; ++rank) {
        const ExpertRange range = Grid(rank, size, size).hosted(0, rank, experts);
        if (range.count > 0) {
          EXPECT_EQ(range.first, next) << "rank " << rank << " of " << size << ", " << experts << " experts";
        }
        next += range.count;
        EXPECT_LE(range.count, (experts + size - 1) / size) << "rank " << rank << " of " << size << " hosts too many of " << experts;
      }
      EXPECT_EQ(next, experts) << size << " ranks";
    }
  }
}

TEST(Grid, PutsEveryLaneInFlightOnce) {
  for (int size = 1; size <= 8; ++size) {
    constexpr int kLanes = 8;
    std::vector<int> worked(static_cast<size_t>(size * 8), 0);
    for (int rank = 0; rank < size; ++rank) {
      const Grid grid(rank, size, kLanes);
      EXPECT_GE(grid.lanes_rounded_up(), kLanes);
      EXPECT_LT(grid.lanes_rounded_up(), kLanes + size);
      for (int lane = rank; lane < grid.lanes_rounded_up(); lane += size) {
        ++worked[static_cast<size_t>(lane)];
        for (int peer = 0; peer < size; ++peer) EXPECT_EQ(grid.lane_in_flight(lane, peer), lane - rank + peer);
      }
    }
    for (int lane = 0; lane < kLanes; ++lane) EXPECT_EQ(worked[static_cast<size_t>(lane)], 1) << "lane " << lane << " on " << size << " ranks";
  }
}

}  // namespace
}  // namespace switchyard
