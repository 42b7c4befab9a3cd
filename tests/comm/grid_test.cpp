// Who does what: every lane and every expert has one rank, whatever their numbers are.
#include "comm/grid.h"

#include <gtest/gtest.h>

#include <string>
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

TEST(Grid, GivesEveryReplicaOfEveryExpertOneRankAndSpreadsThemEvenly) {
  for (int size = 1; size <= 9; ++size) {
    for (int replicas = 1; replicas <= 4; ++replicas) {
      for (int experts = 1; experts <= 9; ++experts) {
        const std::string what = std::to_string(experts) + " experts, " + std::to_string(replicas) + " replicas, " + std::to_string(size) + " ranks";
        const int copies = experts * replicas;
        std::vector<int> seen(static_cast<size_t>(copies), 0);
        for (int rank = 0; rank < size; ++rank) {
          const Grid grid(rank, size, 2 * size + 1, replicas);
          const ExpertRange hosted = grid.hosted(0, rank, experts);
          EXPECT_GE(hosted.count, copies / size) << what;
          EXPECT_LE(hosted.count, (copies + size - 1) / size) << what;
          for (int copy = hosted.first; copy < hosted.first + hosted.count; ++copy) {
            ++seen[static_cast<size_t>(copy)];
            EXPECT_EQ(grid.owner(0, copy % experts, experts, copy / experts), rank) << "copy " << copy << " of " << what;
          }
          int divided = 0;
          for (int replica = 0; replica < replicas; ++replica) {
            const ExpertRange part = Grid::of_replica(hosted, replica, experts);
            for (int e = part.first; e < part.first + part.count; ++e) EXPECT_EQ(grid.owner(0, e, experts, replica), rank) << what;
            divided += part.count;
          }
          EXPECT_EQ(divided, hosted.count) << what;
        }
        for (const int times : seen) EXPECT_EQ(times, 1) << what;
      }
    }
  }
}

TEST(Grid, KeepsRowsAmongTheRanksOfOneReplicaWhereTheirNumberDivides) {
  for (const int replicas : {1, 2, 3, 4}) {
    for (int size = replicas; size <= 12; size += replicas) {
      const Grid grid(0, size, 2 * size, replicas);
      for (int lane = 0; lane < grid.lanes_rounded_up(); ++lane) {
        EXPECT_EQ(grid.replica(lane), lane % replicas);
        for (int expert = 0; expert < 6; ++expert) {
          const int host = grid.owner(0, expert, 6, grid.replica(lane));
          EXPECT_EQ(host % replicas, lane % size % replicas) << "lane " << lane << " of " << size << " ranks and " << replicas << " replicas";
        }
      }
    }
  }
}

TEST(Grid, CountsWhatOneRoundMayBringToOneRank) {
  const auto pairs = [](int size, int lanes, int replicas, int experts) {
    return Grid(0, size, lanes, replicas).most_in_flight(0, experts, [](int fed) { return fed; });
  };
  EXPECT_EQ(pairs(4, 8, 1, 6), 4 * 2) << "two experts, fed by all lanes";
  EXPECT_EQ(pairs(4, 8, 2, 6), 2 * 3) << "three copies of one replica, fed by half of the lanes";
  EXPECT_EQ(pairs(1, 8, 2, 6), 6) << "all copies, of which one lane feeds one replica's";
  EXPECT_EQ(pairs(3, 8, 2, 6), 2 * 4) << "four copies of replica 0, or of both; two lanes of a round may feed them";
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
