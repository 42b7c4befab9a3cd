// The known answers of philox4x32-10 are those of Random123 1.14 (kat_vectors).
#include "kernels/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace switchyard {
namespace {

TEST(Philox, GivesTheKnownAnswersOfRandom123) {
  EXPECT_EQ(philox(0, {0, 0, 0, 0}), (Philox4{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(philox(~uint64_t{0}, {~0u, ~0u, ~0u, ~0u}), (Philox4{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  const uint64_t pi_key = uint64_t{0x299f31d0u} << 32 | 0xa4093822u;  // key[0] is the low half
  EXPECT_EQ(philox(pi_key, {0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}), (Philox4{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

// Changing the packing changes every run that has ever been made: these words must not move.
TEST(Random, PacksKeyAndCounterAsItAlwaysHas) {
  const Random random(7, Purpose::kExpertDropout, 3, 1200, expert_index(2, 1, 5, 9));
  EXPECT_EQ(random.key, 0xbae83cf5298ceaceu);
  EXPECT_EQ(random.words(0, 0), (Philox4{0x80bac10cu, 0xafc7f3afu, 0x3e1aa5d5u, 0x92496216u}));
  EXPECT_EQ(random.word(3, 6), 0x82c1a0afu);
}

TEST(Random, CounterIsBlockStepAndBothHalvesOfTheIndex) {
  const Random random(1, Purpose::kJitter, 0, 77, (uint64_t{5} << 32) + 0xffffffffu);
  EXPECT_EQ(random.words(0, 9), philox(random.key, {9, 77, 0xffffffffu, 5}));
  EXPECT_EQ(random.words(1, 9), philox(random.key, {9, 77, 0, 6})) << "the row carries into the high half";
  for (uint32_t element = 0; element < 8; ++element) EXPECT_EQ(random.word(1, element), random.words(1, element / 4)[element % 4]);
}

TEST(Random, EveryPartOfTheNameChangesTheDraw) {
  std::set<uint32_t> words;
  words.insert(Random(1, Purpose::kJitter, 0, 0, 0).word(0, 0));
  words.insert(Random(2, Purpose::kJitter, 0, 0, 0).word(0, 0));
  words.insert(Random(1, Purpose::kHiddenDropout, 0, 0, 0).word(0, 0));
  words.insert(Random(1, Purpose::kJitter, 1, 0, 0).word(0, 0));
  words.insert(Random(1, Purpose::kJitter, 0, 1, 0).word(0, 0));
  words.insert(Random(1, Purpose::kJitter, 0, 0, 1).word(0, 0));
  words.insert(Random(1, Purpose::kJitter, 0, 0, 0).word(0, 1));
  words.insert(Random(1, Purpose::kJitter, 0, 0, 0).word(0, 4));
  EXPECT_EQ(words.size(), 8u);
}

TEST(Random, RowsCountFromTheFirstIndex) {
  const Random from_zero(9, Purpose::kEmbeddingDropout, 0, 5, 0), from_ten(9, Purpose::kEmbeddingDropout, 0, 5, 10);
  for (uint32_t element = 0; element < 9; ++element) EXPECT_EQ(from_zero.word(13, element), from_ten.word(3, element));
}

TEST(ExpertIndex, FieldsDoNotOverlapAtTheirLargest) {
  EXPECT_EQ(expert_index(0xffff, 0, 0, 0), 0xffff000000000000u);
  EXPECT_EQ(expert_index(0, 0xfff, 0, 0), 0x0000fff000000000u);
  EXPECT_EQ(expert_index(0, 0, 0x3fff, 0), 0x0000000fffc00000u);
  EXPECT_EQ(expert_index(0, 0, 0, 0x3fffff), 0x00000000003fffffu);
}

TEST(UnitFloat, StaysBelowOne) {
  EXPECT_EQ(unit_float(0), 0.0f);
  EXPECT_EQ(unit_float(0xffffffffu), 1.0f - 0x1p-24f);
}

TEST(DropThreshold, IsTheRateOfAllWords) {
  EXPECT_EQ(drop_threshold(0), 0u);
  EXPECT_EQ(drop_threshold(0.5), 0x80000000u);
  EXPECT_EQ(drop_threshold(0.25), 0x40000000u);
}

TEST(HashName, IsFnv1a) {
  EXPECT_EQ(hash_name(""), 0xcbf29ce484222325u);
  EXPECT_EQ(hash_name("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(hash_name("foobar"), 0x85944171f73967e8u);
}

constexpr int kDraws = 1 << 16;

TEST(Distribution, UniformFillsItsBinsEvenly) {
  const Random random(3, Purpose::kJitter, 0, 0, 0);
  constexpr int kBins = 64;
  std::vector<int> bins(kBins, 0);
  for (int i = 0; i < kDraws; ++i) ++bins[static_cast<size_t>(unit_float(random.word(static_cast<uint64_t>(i / 256), static_cast<uint32_t>(i % 256))) * kBins)];
  double chi_square = 0;
  for (int count : bins) chi_square += (count - kDraws / kBins) * (count - kDraws / kBins) / static_cast<double>(kDraws / kBins);
  // 63 degrees of freedom: mean 63, deviation 11.2; the draws are fixed, so this cannot flicker.
  EXPECT_GT(chi_square, 25);
  EXPECT_LT(chi_square, 110);
}

TEST(Distribution, DropoutDropsItsRate) {
  const Random random(4, Purpose::kHiddenDropout, 2, 8, 0);
  for (double rate : {0.1, 0.4, 0.9}) {
    int dropped = 0;
    for (int i = 0; i < kDraws; ++i) dropped += random.word(static_cast<uint64_t>(i / 64), static_cast<uint32_t>(i % 64)) < drop_threshold(rate) ? 1 : 0;
    EXPECT_NEAR(dropped / static_cast<double>(kDraws), rate, 4 * std::sqrt(rate * (1 - rate) / kDraws));
  }
}

TEST(Distribution, NormalHasMeanZeroDeviationOneAndNormalTails) {
  const Random random(5, Purpose::kInitialise, 0, 0, 0);
  double sum = 0, squares = 0;
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const Philox4 words = random.words(static_cast<uint64_t>(i), 0);
    const double x = normal_from(words[0], words[1]);
    sum += x;
    squares += x * x;
    beyond_two += std::abs(x) > 2 ? 1 : 0;
  }
  EXPECT_NEAR(sum / kDraws, 0, 4 / std::sqrt(kDraws));
  EXPECT_NEAR(squares / kDraws, 1, 4 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(beyond_two / static_cast<double>(kDraws), 0.0455, 4 * std::sqrt(0.0455 / kDraws));
  EXPECT_TRUE(std::isfinite(normal_from(0, 0)));
}

}  // namespace
}  // namespace switchyard
