#include "src/moe/decision.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "src/moe/gates.h"

namespace switchyard {
namespace {

using Rows = std::vector<std::vector<double>>;

std::vector<double> flat(const Rows& rows) {
  std::vector<double> all;
  for (const std::vector<double>& row : rows) all.insert(all.end(), row.begin(), row.end());
  return all;
}

Decision begun(int64_t tokens, int64_t experts, int64_t choices, int64_t group = 0) {
  Decision decision;
  decision.begin({tokens, experts, group == 0 ? tokens : group}, choices);
  return decision;
}

std::vector<int32_t> left_to_right(const Decision& decision) {
  std::vector<int32_t> order;
  order_left_to_right(decision.shape.tokens, order);
  return order;
}

// 1 for tokens whose choice has an entry.
std::vector<int> kept(const Decision& decision) {
  std::vector<int> result;
  for (const int32_t position : decision.position) result.push_back(position >= 0);
  return result;
}

const Rows kGoldenA{{.9, .1}, {.6, .4}, {.2, .8}, {.7, .3}, {.45, .55}, {.1, .9}};

TEST(Decision, GoldenALeftToRight) {
  Decision d = begun(6, 2, 1);
  const std::vector<double> p = flat(kGoldenA);
  choose_experts<double>(p, d);
  ask_for_slots(left_to_right(d), 2, d);
  EXPECT_EQ(d.expert, (std::vector<int32_t>{0, 0, 1, 0, 1, 1}));
  EXPECT_EQ(kept(d), (std::vector<int>{1, 1, 1, 0, 1, 0}));
  EXPECT_EQ(d.position, (std::vector<int32_t>{0, 1, 2, -1, 3, -1}));
  EXPECT_EQ(d.source, (std::vector<int32_t>{0, 1, 2, 4}));
}

TEST(Decision, GoldenABatchPrioritised) {
  Decision d = begun(6, 2, 1);
  const std::vector<double> p = flat(kGoldenA);
  choose_experts<double>(p, d);
  std::vector<int32_t> order;
  order_by_score<double>(p, d, order);
  EXPECT_EQ(order, (std::vector<int32_t>{0, 5, 2, 3, 1, 4}));
  ask_for_slots(order, 2, d);
  EXPECT_EQ(kept(d), (std::vector<int>{1, 0, 1, 1, 0, 1}));
  EXPECT_EQ(d.source, (std::vector<int32_t>{0, 3, 5, 2})) << "slots in the order in which they were given";
}

TEST(Decision, PriorityIsWithinTheGroupAndPaddingIsLast) {
  Decision d = begun(6, 2, 1, 3);
  d.mask[3] = 0;
  const std::vector<double> p = flat(kGoldenA);
  choose_experts<double>(p, d);
  std::vector<int32_t> order;
  order_by_score<double>(p, d, order);
  EXPECT_EQ(order, (std::vector<int32_t>{0, 2, 1, 5, 4, 3}));
}

TEST(Decision, ChoicesAreInOrderOfScoresAndTiesGoToTheLowestIndex) {
  Decision d = begun(3, 4, 3);
  choose_experts<double>(flat({{.1, .4, .2, .3}, {.25, .25, .25, .25}, {.1, .4, .1, .4}}), d);
  EXPECT_EQ(d.expert, (std::vector<int32_t>{1, 3, 2, 0, 1, 2, 1, 3, 0}));
}

TEST(Decision, ScoresThatAreNoNumbersDoNoHarm) {
  Decision d = begun(2, 3, 2);
  choose_experts<double>(std::vector<double>(6, std::nan("")), d);
  for (const int32_t expert : d.expert) EXPECT_TRUE(expert >= -1 && expert < 3);
  std::vector<int32_t> order;
  order_by_score<double>(std::vector<double>(6, std::nan("")), d, order);
  ask_for_slots(order, 1, d);
  Decision tokens = begun(2, 3, 3);
  choose_tokens<double>(std::vector<double>(6, std::nan("")), 2, tokens);
  EXPECT_EQ(tokens.expert, std::vector<int32_t>(6, kNoChoice));
}

TEST(Decision, FirstChoicesOfAGroupGetTheirSlotsBeforeAnySecondChoice) {
  // Token 0 has expert 1 second, tokens 1 and 2 have it first.
  Decision d = begun(3, 2, 2);
  choose_experts<double>(flat({{.9, .1}, {.2, .8}, {.3, .7}}), d);
  ask_for_slots(left_to_right(d), 2, d);
  EXPECT_EQ(kept(d), (std::vector<int>{1, 0, 1, 1, 1, 0})) << "expert 1 is full of first choices; token 1's second choice has the last slot of expert 0";
  EXPECT_EQ(d.requested, (std::vector<int32_t>{3, 3}));
  EXPECT_EQ(d.kept, (std::vector<int32_t>{2, 2}));
  EXPECT_EQ(d.source, (std::vector<int32_t>{0, 3, 2, 4})) << "token * 2 + choice, by expert";
}

TEST(Decision, CapacityIsCountedInEachGroup) {
  Decision d = begun(5, 2, 1, 2);
  choose_experts<double>(flat({{.9, .1}, {.9, .1}, {.9, .1}, {.2, .8}, {.9, .1}}), d);
  ask_for_slots(left_to_right(d), 1, d);
  EXPECT_EQ(kept(d), (std::vector<int>{1, 0, 1, 1, 1}));
  EXPECT_EQ(d.requested, (std::vector<int32_t>{2, 0, 1, 1, 1, 0}));
}

TEST(Decision, ATokenThatIsLeftBehindAsksItsNextChoices) {
  Decision d = begun(4, 3, 3);
  // All want expert 0, then 1, then 2; each has one slot.
  choose_experts<double>(flat(Rows(4, {.6, .3, .1})), d);
  ask_until_kept(left_to_right(d), 1, d);
  EXPECT_EQ(kept(d), (std::vector<int>{1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}));
  EXPECT_EQ(d.expert[1], not_asked(1)) << "token 0 was served at once";
  EXPECT_EQ(d.expert[5], not_asked(2));
  EXPECT_EQ(d.expert[9], 0);
  EXPECT_EQ(d.requested, (std::vector<int32_t>{4, 0, 0})) << "first choices";
  EXPECT_EQ(tokens_without_entry(d), 1);
  EXPECT_EQ(considered(not_asked(2)), 2);
  EXPECT_EQ(considered(kNoChoice), -1);
}

TEST(Decision, EveryoneIsAskedInRoundsNotTokenByToken) {
  // Token 0 finds expert 0 taken by nobody; token 1 goes to expert 1 in round 2 although token 2 has it first.
  Decision d = begun(3, 2, 2);
  choose_experts<double>(flat({{.9, .1}, {.8, .2}, {.1, .9}}), d);
  ask_until_kept(left_to_right(d), 1, d);
  EXPECT_EQ(kept(d), (std::vector<int>{1, 0, 0, 0, 1, 0})) << "token 2's first choice comes before token 1's second";
}

TEST(Decision, ExpertsChooseTheirTokensAndTiesGoToTheFirst) {
  Decision d = begun(4, 2, 2);
  choose_tokens<double>(flat({{.5, .5}, {.2, .8}, {.5, .5}, {.5, .5}}), 2, d);
  EXPECT_EQ(d.expert, (std::vector<int32_t>{0, 1, -1, 1, 0, -1, -1, -1}));
  ask_for_slots(left_to_right(d), 4, d);
  EXPECT_EQ(d.kept, (std::vector<int32_t>{2, 2}));
  EXPECT_EQ(tokens_without_entry(d), 1);
  EXPECT_EQ(tokens_of(d), 4);
}

TEST(Decision, ExpertsDoNotChoosePadding) {
  Decision d = begun(3, 2, 2);
  d.mask[1] = 0;
  choose_tokens<double>(flat(Rows(3, {.5, .5})), 3, d);
  EXPECT_EQ(d.expert, (std::vector<int32_t>{0, 1, -1, -1, 0, 1}));
}

TEST(Decision, TheSecondExpertIsAskedAsOftenAsTwiceItsGate) {
  constexpr int64_t kTokens = 20000;
  Decision d = begun(kTokens, 2, 2);
  std::vector<double> p;
  for (int64_t t = 0; t < kTokens; ++t) p.insert(p.end(), {.8, .2});
  choose_experts<double>(p, d);
  std::vector<double> gates;
  gates_of<double>(GateKind::kProbability, p, d, gates);
  ask_second_at_random<double>(gates, Random(1, Purpose::kSecondExpert, 0, 0, 0), d);
  int64_t asked = 0;
  for (int64_t t = 0; t < kTokens; ++t) {
    EXPECT_EQ(d.expert[static_cast<size_t>(2 * t)], 0) << "the first is always asked";
    EXPECT_EQ(considered(d.expert[static_cast<size_t>(2 * t + 1)]), 1);
    asked += d.expert[static_cast<size_t>(2 * t + 1)] == 1;
  }
  EXPECT_NEAR(static_cast<double>(asked) / kTokens, 0.4, 0.01);
  std::vector<double> likely(gates.size(), 0.5);
  choose_experts<double>(p, d = begun(kTokens, 2, 2));
  ask_second_at_random<double>(likely, Random(1, Purpose::kSecondExpert, 0, 0, 0), d);
  EXPECT_EQ(std::count(d.expert.begin(), d.expert.end(), 1), kTokens) << "from a gate of 0.5 on it is always asked";
}

TEST(Decision, SamplesFollowTheProbabilities) {
  constexpr int64_t kTokens = 40000;
  std::vector<double> p, scores;
  for (int64_t t = 0; t < kTokens; ++t) p.insert(p.end(), {.5, .3, .2});
  Decision d = begun(kTokens, 3, 2);
  sampling_scores<double>(p, Random(5, Purpose::kRouterSample, 1, 2, 0), d.shape, scores);
  choose_experts<double>(scores, d);
  double first_0 = 0, then_1 = 0;
  for (int64_t t = 0; t < kTokens; ++t) {
    EXPECT_NE(d.expert[static_cast<size_t>(2 * t)], d.expert[static_cast<size_t>(2 * t + 1)]);
    if (d.expert[static_cast<size_t>(2 * t)] != 0) continue;
    first_0 += 1;
    then_1 += d.expert[static_cast<size_t>(2 * t + 1)] == 1;
  }
  EXPECT_NEAR(first_0 / kTokens, 0.5, 0.01);
  EXPECT_NEAR(then_1 / first_0, 0.6, 0.01) << "without replacement: .3 of .3 + .2";
}

TEST(HashTable, IsBalancedFixedAndOfItsSeedAndLayer) {
  const std::vector<int32_t> table = hash_table(7, 2, 1003, 8);
  std::vector<int> load(8, 0);
  for (const int32_t expert : table) ++load.at(static_cast<size_t>(expert));
  EXPECT_EQ(*std::max_element(load.begin(), load.end()), 126);
  EXPECT_EQ(*std::min_element(load.begin(), load.end()), 125);
  EXPECT_EQ(table, hash_table(7, 2, 1003, 8));
  EXPECT_NE(table, hash_table(8, 2, 1003, 8));
  EXPECT_NE(table, hash_table(7, 3, 1003, 8));
  const auto same_as_remainder = std::count_if(table.begin(), table.end(), [i = 0](int32_t expert) mutable { return expert == i++ % 8; });
  EXPECT_LT(same_as_remainder, 200) << "neighbouring numbers must not go round in order: about an eighth stays by chance";
  EXPECT_TRUE(hash_table(1, 0, 0, 4).empty());
}

TEST(HashTable, ANumberOutsideItIsAnError) {
  Decision d = begun(2, 4, 1);
  const std::vector<int32_t> table = hash_table(1, 0, 10, 4);
  EXPECT_THROW(choose_by_table(std::vector<int32_t>{1, 10}, table, d), InternalError);
  EXPECT_THROW(choose_by_table(std::vector<int32_t>{1, -1}, table, d), InternalError);
  d.mask[1] = 0;
  EXPECT_NO_THROW(choose_by_table(std::vector<int32_t>{1, -1}, table, d)) << "padding may have any number";
}

TEST(Gates, GoldenB) {
  const Rows p{{.8, .2}, {.7, .3}, {.6, .4}, {.3, .7}, {.9, .1}, {.4, .6}};
  Decision d = begun(6, 2, 1);
  const std::vector<double> probabilities = flat(p);
  choose_experts<double>(probabilities, d);
  std::vector<double> shares;
  shares_of(d, shares);
  EXPECT_NEAR(shares[0], 2.0 / 3, 1e-15);
  const std::vector<double> totals(6, 0.0);
  EXPECT_NEAR(router_sums<double>(probabilities, totals, d, shares, {.balance = 2, .z = 1})[0], 1.0777778, 5e-8);
}

TEST(Gates, GoldenC) {
  const Rows logits{{1, 2, 3, 4}, {0, 0, 0, 0}, {-1, .5, 2, .25}};
  std::vector<double> p, totals;
  for (const std::vector<double>& row : logits) {
    double total = 0;
    for (const double logit : row) total += std::exp(logit);
    for (const double logit : row) p.push_back(std::exp(logit) / total);
    totals.push_back(std::log(total));
  }
  Decision d = begun(3, 4, 2);
  choose_experts<double>(p, d);
  std::vector<double> shares;
  shares_of(d, shares);
  EXPECT_NEAR(router_sums<double>(p, totals, d, shares, {.balance = 0, .z = 1.0 / 3})[1], 9.0835265, 5e-8);
}

TEST(Gates, UniformRoutingCostsAlphaForEveryNumberOfChoices) {
  for (const int64_t choices : {1, 2, 4}) {
    Decision d = begun(8, 4, choices);
    const std::vector<double> p(32, 0.25), totals(8, 0.0);
    choose_experts<double>(p, d);
    std::vector<double> shares;
    shares_of(d, shares);
    EXPECT_NEAR(router_sums<double>(p, totals, d, shares, {.balance = 4 * 0.01, .z = 0})[0], 0.01, 1e-15) << choices << " choices";
  }
}

TEST(Gates, ThoseThatWereNotAskedStillCountInTheSumAndInTheBalance) {
  Decision d = begun(1, 3, 2);
  const std::vector<double> p{.6, .3, .1};
  choose_experts<double>(p, d);
  d.expert[1] = not_asked(1);
  std::vector<double> gates, shares;
  gates_of<double>(GateKind::kRenormalised, p, d, gates);
  EXPECT_NEAR(gates[0], 2.0 / 3, 1e-15);
  shares_of(d, shares);
  EXPECT_EQ(shares, (std::vector<double>{.5, .5, 0}));
}

}  // namespace
}  // namespace switchyard
