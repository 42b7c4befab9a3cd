#include "src/report/alarms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace switchyard {
namespace {

RouterCounts counts(std::vector<int64_t> requested, int64_t dropped = 0, double entropy = 1) {
  RouterCounts result;
  for (const int64_t count : requested) result.tokens += count;
  result.asked = result.tokens;
  result.requested = std::move(requested);
  result.dropped = dropped;
  result.entropy = entropy;
  return result;
}

// Shows the same counts for `steps` steps from `first` on, and gathers the alarms.
std::vector<Alarm> after(Alarms& alarms, int64_t first, int64_t steps, const std::vector<RouterCounts>& layers) {
  std::vector<Alarm> found;
  for (int64_t step = first; step < first + steps; ++step) {
    for (Alarm& alarm : alarms.observe(step, true, layers)) found.push_back(std::move(alarm));
  }
  return found;
}

TEST(Alarms, AnExpertThatNoTokenChoseForSoManyStepsIsNamedOnce) {
  Alarms alarms({.unused_steps = 5}, {});
  EXPECT_TRUE(after(alarms, 1, 4, {counts({3, 0, 5, 0})}).empty()) << "four steps are not five";
  const std::vector<Alarm> found = after(alarms, 5, 20, {counts({3, 0, 5, 0})});
  ASSERT_EQ(found.size(), 1u) << "once for each layer";
  EXPECT_EQ(found[0].kind, "unused_expert");
  EXPECT_EQ(found[0].step, 5);
  EXPECT_EQ(found[0].layer, 0);
  EXPECT_THAT(found[0].experts, ::testing::ElementsAre(1, 3));
  EXPECT_EQ(found[0].sentence,
            "step 5, MoE layer 0: no token chose experts 1 and 3 of 4 in the last 5 steps; raise model.moe.balance_loss, or lower optimizer.learning_rate");
}

TEST(Alarms, OneTokenEndsAnExpertsCount) {
  Alarms alarms({.unused_steps = 3}, {});
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(after(alarms, 3 * i, 2, {counts({4, 0})}).empty());
    EXPECT_TRUE(after(alarms, 3 * i + 2, 1, {counts({4, 1})}).empty());
  }
}

TEST(Alarms, AStepWithoutTokensSaysNothingAboutExperts) {
  Alarms alarms({.unused_steps = 2, .load = 1.5, .dropped = 0.1, .entropy = 0.5}, {});
  EXPECT_TRUE(after(alarms, 1, 10, {counts({0, 0}, 0, 0)}).empty());
}

TEST(Alarms, ALayerWithoutChoicesSaysNothingAboutExperts) {
  Alarms alarms({.unused_steps = 2, .load = 1.5, .dropped = 0.1}, {});
  RouterCounts soft = counts({0, 0});
  soft.tokens = 100;
  EXPECT_TRUE(after(alarms, 1, 10, {soft}).empty());
}

TEST(Alarms, LoadAboveSoManyTimesTheMeanOfAWindow) {
  Alarms even({.unused_steps = 4, .load = 2}, {});
  EXPECT_TRUE(after(even, 1, 4, {counts({2, 1, 1})}).empty()) << "1.5 times is not above 2";
  Alarms alarms({.unused_steps = 4, .load = 2}, {});
  EXPECT_TRUE(after(alarms, 1, 3, {counts({8, 1, 1})}).empty()) << "the window is not over";
  const std::vector<Alarm> found = after(alarms, 4, 1, {counts({8, 1, 1})});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].kind, "load");
  EXPECT_THAT(found[0].experts, ::testing::ElementsAre(0));
  EXPECT_NEAR(found[0].value, 2.4, 1e-12);
  EXPECT_THAT(found[0].sentence, ::testing::HasSubstr("expert 0 was chosen 2.4 times as often as the mean of 3 experts in the last 4 steps"));
}

TEST(Alarms, AWindowForgetsTheOneBefore) {
  Alarms alarms({.unused_steps = 2, .dropped = 0.5}, {});
  EXPECT_TRUE(after(alarms, 1, 2, {counts({5, 5}, 4)}).empty());
  ASSERT_EQ(after(alarms, 3, 2, {counts({5, 5}, 6)}).size(), 1u) << "40 % of the window before must not thin out its 60 %";
}

TEST(Alarms, DropsAndEntropyAreJudgedOverTheTokensOfAWindow) {
  Alarms alarms({.unused_steps = 2, .dropped = 0.5, .entropy = 0.1}, {});
  EXPECT_TRUE(after(alarms, 1, 1, {counts({5, 5}, 10, 0.001)}).empty());
  std::vector<Alarm> found = after(alarms, 2, 1, {counts({5, 5}, 1, 0.001)});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].kind, "dropped");
  EXPECT_NEAR(found[0].value, 0.55, 1e-12);
  EXPECT_EQ(found[1].kind, "entropy");
  EXPECT_NEAR(found[1].value, 0.001 / std::log(2.0), 1e-12);
  EXPECT_TRUE(after(alarms, 3, 20, {counts({5, 5}, 10, 0.001)}).empty()) << "once in a run";
}

TEST(Alarms, LayersAreJudgedByThemselves) {
  Alarms alarms({.unused_steps = 2, .load = 1.5}, {});
  const std::vector<Alarm> found = after(alarms, 1, 6, {counts({4, 4}), counts({9, 1})});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].layer, 1);
}

TEST(Alarms, ASkippedUpdateIsToldOnceWithWhatToDo) {
  Alarms alarms({}, {});
  const std::vector<Alarm> found = alarms.observe(17, false, {});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].kind, "skipped_update");
  EXPECT_EQ(found[0].layer, -1);
  EXPECT_THAT(found[0].sentence, ::testing::HasSubstr("step 17: the loss or the gradient norm was not finite, and the update was skipped; "));
  EXPECT_TRUE(alarms.observe(18, false, {}).empty());
}

TEST(Alarms, ANumberThatIsNotFiniteDoesNotSpoilTheEntropyOfAWindow) {
  Alarms alarms({.unused_steps = 2, .entropy = 0.1}, {});
  EXPECT_EQ(alarms.observe(1, false, std::vector{counts({1, 1}, 0, std::nan(""))}).size(), 1u);
  EXPECT_THAT(alarms.observe(2, true, std::vector{counts({1, 1}, 0, 0.01)}), ::testing::SizeIs(1));
}

TEST(Alarms, AThresholdOfZeroNeverSpeaks) {
  Alarms alarms({}, {});
  EXPECT_TRUE(after(alarms, 1, 500, {counts({100, 0, 0, 0}, 90, 0)}).empty());
}

TEST(Alarms, WhatAnEarlierPartOfTheRunHasSaidIsNotSaidAgain) {
  const std::vector<Alarm> given = {{.kind = "unused_expert", .layer = 0}};
  Alarms alarms({.unused_steps = 2}, given);
  const std::vector<Alarm> found = after(alarms, 1, 10, {counts({4, 0}), counts({0, 4})});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].layer, 1);
}

TEST(Alarms, ManyExpertsAreCounted) {
  Alarms alarms({.unused_steps = 1}, {});
  std::vector<int64_t> requested(32, 0);
  requested[31] = 7;
  const std::vector<Alarm> found = alarms.observe(1, true, std::vector{counts(requested)});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].experts.size(), 31u);
  EXPECT_THAT(found[0].sentence, ::testing::HasSubstr("experts 0, 1, 2, 3, 4, 5 and 25 more of 32 in the last step;"));
}

}  // namespace
}  // namespace switchyard
