#include "src/data/window_order.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

namespace switchyard {

namespace {

std::vector<int64_t> whole_order(int64_t size, uint64_t seed, uint64_t epoch) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < size; ++i) order.push_back(window_order(i, size, seed, epoch));
  return order;
}

TEST(WindowOrder, IsABijectionForEverySize) {
  for (int64_t size = 1; size <= 300; ++size) {
    for (const uint64_t epoch : {0u, 1u, 7u}) {
      std::vector<int> hits(static_cast<size_t>(size));
      for (const int64_t window : whole_order(size, 5, epoch)) {
        ASSERT_TRUE(window >= 0 && window < size) << "size " << size;
        ++hits[static_cast<size_t>(window)];
      }
      for (const int hit : hits) ASSERT_EQ(hit, 1) << "size " << size << " epoch " << epoch;
    }
  }
}

TEST(WindowOrder, IsABijectionAroundPowersOfTwo) {
  for (const int64_t size : {4095, 4096, 4097, 65535, 65536, 65537}) {
    std::vector<bool> hit(static_cast<size_t>(size));
    for (const int64_t window : whole_order(size, 1, 0)) {
      ASSERT_FALSE(hit[static_cast<size_t>(window)]) << "size " << size;
      hit[static_cast<size_t>(window)] = true;
    }
  }
}

TEST(WindowOrder, IsAnotherOneForAnotherSeedOrEpoch) {
  const auto order = whole_order(1000, 1, 0);
  EXPECT_NE(order, whole_order(1000, 2, 0));
  EXPECT_NE(order, whole_order(1000, 1, 1));
  EXPECT_NE(order, whole_order(1000, 1, uint64_t{1} << 32));
  EXPECT_EQ(order, whole_order(1000, 1, 0));
}

// A shuffled order moves a window by a third of the size on average, and has about one fixed point.
TEST(WindowOrder, LooksShuffled) {
  constexpr int64_t kSize = 10000;
  double distance = 0;
  int fixed = 0, followed = 0;
  for (int64_t i = 0; i < kSize; ++i) {
    const int64_t window = window_order(i, kSize, 9, 0);
    distance += static_cast<double>(std::llabs(window - i));
    fixed += window == i;
    followed += i + 1 < kSize && window_order(i + 1, kSize, 9, 0) == window + 1;
  }
  EXPECT_NEAR(distance / kSize, kSize / 3.0, kSize / 60.0);
  EXPECT_LE(fixed, 8);
  EXPECT_LE(followed, 8);
}

// Resuming a run under a newer program must see the same order.
TEST(WindowOrder, StaysAsItIs) {
  EXPECT_EQ(whole_order(12, 1, 0), (std::vector<int64_t>{7, 4, 0, 6, 11, 10, 5, 8, 9, 1, 3, 2}));
  EXPECT_EQ(whole_order(12, 1, 1), (std::vector<int64_t>{1, 2, 4, 8, 9, 6, 3, 5, 11, 10, 0, 7}));
  EXPECT_EQ(window_order(123456789, int64_t{1} << 40, 7, 3), 545576003569);
}

TEST(WindowOrder, HoldsLargeSizes) {
  constexpr int64_t kSize = (int64_t{1} << 61) + 12345;
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t window = window_order(kSize - 1 - i, kSize, 3, 4);
    ASSERT_TRUE(window >= 0 && window < kSize);
  }
}

}  // namespace
}  // namespace switchyard
