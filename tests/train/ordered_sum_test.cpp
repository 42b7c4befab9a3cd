// The owners' sums: lanes are added in lane order, whatever the number of ranks is.
#include "comm/ordered_sum.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/ranks.h"

namespace switchyard {
namespace {

// Terms whose sum depends on its order: big and small numbers of both signs.
float term(int lane, int64_t element) { return static_cast<float>((lane % 2 == 0 ? 1.0 : -1.0) * (1e7 + 0.37 * static_cast<double>(element * (lane + 3))) / (1 + lane)); }

std::vector<float> sum_in_lane_order(int lanes, int64_t elements) {
  std::vector<float> sum(static_cast<size_t>(elements));
  for (int64_t i = 0; i < elements; ++i) {
    for (int lane = 0; lane < lanes; ++lane) sum[static_cast<size_t>(i)] = lane == 0 ? term(0, i) : sum[static_cast<size_t>(i)] + term(lane, i);
  }
  return sum;
}

// What the owners of all ranges hold after every lane has sent two buckets, as one run per bucket.
std::vector<std::vector<float>> sum_on(int ranks, int lanes, const std::vector<std::vector<int64_t>>& blocks) {
  std::vector<std::vector<float>> result;
  for (const auto& bucket : blocks) result.emplace_back(static_cast<size_t>(divide_bucket(bucket, 1).elements()));
  const OutboxSizes sizes{0, 1 << 16};
  run_ranks(
      ranks,
      [&](Communicator& communicator) {
        const Grid grid(communicator.rank(), ranks, lanes);
        const auto backend = make_reference_backend();
        Trace trace;
        std::vector<BucketLayout> layouts;
        for (const auto& bucket : blocks) layouts.push_back(divide_bucket(bucket, ranks));
        OrderedSum sum(communicator, *backend, grid, trace, Dtype::kF32, layouts);
        std::vector<Buffer> gradients, sums;
        for (const BucketLayout& layout : layouts) {
          gradients.push_back(make_buffer(Dtype::kF32, {layout.elements()}));
          sums.push_back(make_buffer(Dtype::kF32, {layout.range_elements(grid.rank())}));
        }
        for (int lane = grid.rank(); lane < grid.lanes_rounded_up(); lane += ranks) {
          for (size_t b = 0; b < layouts.size(); ++b) {
            const Tensor gradient = gradients[b].tensor(Dtype::kF32, {layouts[b].elements()});
            for (int64_t i = 0; i < layouts[b].elements(); ++i) gradient.get<float>()[i] = term(lane, i);
            sum.send(static_cast<int>(b), lane, gradient, sums[b].tensor(Dtype::kF32, {layouts[b].range_elements(grid.rank())}));
          }
          sum.finish();
        }
        for (size_t b = 0; b < layouts.size(); ++b) {
          const float* own = sums[b].tensor(Dtype::kF32, {layouts[b].range_elements(grid.rank())}).get<float>();
          std::copy_n(own, layouts[b].range_elements(grid.rank()), result[b].begin() + layouts[b].begin[static_cast<size_t>(grid.rank())]);
        }
      },
      {.sizes = sizes});
  return result;
}

TEST(OrderedSum, AddsLanesInLaneOrderOnAnyNumberOfRanks) {
  const std::vector<std::vector<int64_t>> blocks = {{100, 60, 1, 300}, {7}, {64, 64, 64, 64, 64}};
  for (const int lanes : {1, 3, 8}) {
    for (const int ranks : {1, 2, 3, 5, 8}) {
      if (ranks > lanes) continue;
      const auto sums = sum_on(ranks, lanes, blocks);
      for (size_t b = 0; b < blocks.size(); ++b) {
        EXPECT_EQ(sums[b], sum_in_lane_order(lanes, static_cast<int64_t>(sums[b].size()))) << "bucket " << b << ", " << ranks << " ranks, " << lanes << " lanes";
      }
    }
  }
}

TEST(DivideBucket, GivesEveryRankWholeBlocksInOrderAndAboutEqualShares) {
  const std::vector<int64_t> blocks = {10, 20, 30, 40, 50, 60, 70, 80};
  for (const int ranks : {1, 2, 3, 4, 7, 12}) {
    const BucketLayout layout = divide_bucket(blocks, ranks);
    ASSERT_EQ(layout.begin.size(), static_cast<size_t>(ranks) + 1);
    EXPECT_EQ(layout.elements(), 360);
    std::vector<int64_t> boundaries = {0};
    for (int64_t block : blocks) boundaries.push_back(boundaries.back() + block);
    for (int rank = 0; rank < ranks; ++rank) {
      EXPECT_GE(layout.range_elements(rank), 0);
      EXPECT_NE(std::find(boundaries.begin(), boundaries.end(), layout.begin[static_cast<size_t>(rank)]), boundaries.end()) << "a block is cut at " << layout.begin[static_cast<size_t>(rank)];
      EXPECT_LE(layout.range_elements(rank), 360 / ranks + 80) << "rank " << rank << " of " << ranks;
    }
  }
}

}  // namespace
}  // namespace switchyard
