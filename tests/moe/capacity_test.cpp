// The number of slots, by the rule of every system in the table of capacity formulas (systems.md 1h).
#include "src/moe/capacity.h"

#include <gtest/gtest.h>

#include <vector>

namespace switchyard {
namespace {

struct Column {
  const char* system;
  CapacityRule rule;
  bool reads_factor = true;  // Keras' example has the argument and does not use it
  std::vector<int64_t> slots;
};

const CapacityRule kMegaBlocks{CapacityRounding::kDown, 1, 0, 0};
const CapacityRule kTutel{CapacityRounding::kMeanUp, 1, 0, 0};

const std::vector<Column>& columns() {
  static const std::vector<Column> all{
      {"Mesh TensorFlow", {CapacityRounding::kDown, 1, 4, 0}, true, {15, 4, 4, 10, 64}},
      {"flaxformer", {CapacityRounding::kNearest, 1, 4, 0}, true, {16, 4, 4, 10, 64}},
      {"Megatron", {CapacityRounding::kUp, 1, 0, 0}, true, {16, 3, 1, 11, 64}},
      {"DeepSpeed", {CapacityRounding::kUp, 1, 4, 0}, true, {16, 4, 4, 11, 64}},
      {"Tutel", kTutel, true, {16, 3, 1, 11, 64}},
      {"fairseq", kTutel, true, {16, 3, 1, 11, 64}},
      {"Hetu", kTutel, true, {16, 3, 1, 11, 64}},
      {"Colossal-AI", {CapacityRounding::kDown, 2, 4, 0}, true, {16, 4, 4, 10, 64}},
      {"MegaBlocks", kMegaBlocks, true, {15, 2, 0, 10, 64}},
      {"labml", kMegaBlocks, true, {15, 2, 0, 10, 64}},
      {"Keras, usable", {CapacityRounding::kDown, 1, 0, 1}, false, {11, 1, -1, 7, 63}},
  };
  return all;
}

struct Line {
  int64_t tokens;
  int experts;
  double factor;
};
constexpr Line kLines[] = {{100, 8, 1.25}, {20, 8, 1.0}, {6, 8, 1.0}, {1030, 128, 1.25}, {4096, 64, 1.0}};

TEST(CapacityRule, ReproducesEveryNumberOfTheTable) {
  for (const Column& column : columns()) {
    for (size_t i = 0; i < std::size(kLines); ++i) {
      const Line& line = kLines[i];
      EXPECT_EQ(slots_by_rule(column.rule, line.tokens, line.experts, column.reads_factor ? line.factor : 1, 1), column.slots[i])
          << column.system << " with " << line.tokens << " tokens, " << line.experts << " experts, factor " << line.factor;
    }
  }
}

TEST(CapacityRule, TheNumbersOfTheModelsOfT5x) {
  // tokens of a group, experts, factor: switch_base, and Switch-C with minima of 4 and 2 (switch.md 1.3).
  EXPECT_EQ(slots_by_rule({CapacityRounding::kNearest, 1, 4, 0}, 8192, 128, 1.25, 1), 80);
  EXPECT_EQ(slots_by_rule({CapacityRounding::kNearest, 1, 2, 0}, 2048, 2048, 1.0, 1), 2);
  EXPECT_EQ(slots_by_rule({CapacityRounding::kDown, 1, 4, 0}, 2048, 2048, 1.0, 1), 4);
  EXPECT_EQ(slots_by_rule({CapacityRounding::kDown, 1, 4, 0}, 1000, 128, 1.25, 1), 9);
  EXPECT_EQ(slots_by_rule({CapacityRounding::kNearest, 1, 4, 0}, 1000, 128, 1.25, 1), 10);
}

TEST(CapacityRule, ChoicesCountTokensSeveralTimes) {
  EXPECT_EQ(slots_by_rule({CapacityRounding::kUp, 1, 0, 0}, 20, 8, 1.25, 2), 7) << "6.25";
  EXPECT_EQ(slots_by_rule(kTutel, 20, 8, 1.25, 2), 6) << "3 tokens in the mean, rounded up; 3.75 slots for each choice, rounded down";
  MoeOptions options{.experts = 8, .capacity_factor = 1.25, .min_capacity = 0, .capacity_times_top_k = true, .top_k = 2};
  EXPECT_EQ(capacity(options, 40, true), 12);
  options.capacity_times_top_k = false;
  EXPECT_EQ(capacity(options, 40, true), 6);
}

TEST(CapacityRule, NoExpertHasMoreSlotsThanTheGroupHasTokensUnlessTheRuleRoundsUp) {
  EXPECT_EQ(slots_by_rule({CapacityRounding::kUp, 1, 0, 0}, 10, 2, 1e300, 1), 10);
  EXPECT_EQ(slots_by_rule({CapacityRounding::kMeanUp, 4, 0, 0}, 10, 2, 1e300, 2), 12);
  EXPECT_EQ(slots_by_rule({CapacityRounding::kDown, 1, 4, 0}, 3, 2, 1.25, 1), 4);
}

TEST(Capacity, IsAtLeastOneWhereARuleSaysLess) {
  const MoeOptions keras{.experts = 8, .capacity_factor = 1, .min_capacity = 0, .unusable_slots = 1};
  EXPECT_EQ(capacity(keras, 20, true), 1);
  EXPECT_EQ(capacity(keras, 6, true), 1) << "the rule says -1: without a slot nothing would ever be learnt";
}

TEST(Capacity, ChoicesAndEntriesOfATokenFollowFromTheRouter) {
  const auto with = [](RouterKind router) { return MoeOptions{.experts = 6, .router = router, .top_k = 3}; };
  EXPECT_EQ(choices_of(with(RouterKind::kTopK)), 3);
  EXPECT_EQ(entries_of(with(RouterKind::kTopK)), 3);
  EXPECT_EQ(choices_of(with(RouterKind::kNoTokenLeftBehind)), 3);
  EXPECT_EQ(entries_of(with(RouterKind::kNoTokenLeftBehind)), 1);
  EXPECT_EQ(choices_of(with(RouterKind::kExpertChoice)), 6);
  EXPECT_EQ(entries_of(with(RouterKind::kExpertChoice)), 6);
  EXPECT_EQ(choices_of(with(RouterKind::kHash)), 1);
}

}  // namespace
}  // namespace switchyard
