// Every way of routing: its values are those of its definition, its gradients are slopes, its bits do not depend on ranks
// or threads.
#include "tests/moe/variants.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/moe/gradient_check.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

class RoutingVariant : public testing::TestWithParam<Variant> {};

TEST_P(RoutingVariant, ValuesAreThoseOfTheDefinition) {
  for (const bool training : {true, false}) {
    Case c = GetParam().c;
    c.training = training;
    c.options.eval_capacity_factor = 0.6;
    c.accumulate = 2;
    const Result actual = run_step(c, 1);
    for (const auto& [name, values] : variant_reference(c)) {
      const std::vector<double>& ours = actual.at(name);
      ASSERT_EQ(ours.size(), values.size()) << name;
      for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(ours[i], values[i], 1e-12) << name << "[" << i << "], training " << training;
    }
  }
}

TEST_P(RoutingVariant, BitsAreTheSameOnAnyNumberOfRanks) {
  Case c = GetParam().c;
  c.precision = kPrecisionF32;
  const Result alone = run_step(c, 1);
  for (const int ranks : {2, 3, 4}) EXPECT_EQ(differences(alone, run_step(c, ranks)), "") << "on " << ranks << " ranks";
}

TEST_P(RoutingVariant, BitsOfTheCpuAreTheSameOnAnyNumberOfRanksAndThreads) {
  for (const Precision& precision : {kPrecisionF32, kPrecisionBF16}) {
    Case c = GetParam().c;
    c.precision = precision;
    c.backend = [] { return make_cpu_backend(1); };
    const Result alone = run_step(c, 1);
    EXPECT_EQ(differences(alone, run_step(c, 4)), "") << "on 4 ranks";
    c.backend = [] { return make_cpu_backend(2); };
    EXPECT_EQ(differences(alone, run_step(c, 2)), "") << "on 2 ranks with 2 threads each";
  }
}

using SmoothVariant = RoutingVariant;

TEST_P(SmoothVariant, GradientsAreSlopes) {
  Case c = GetParam().c;
  c.lanes = 1;
  c.tokens = 14;
  c.shape.bias = true;
  c.options.group_tokens = c.options.group_tokens == 0 ? 0 : 6;
  c.options.expert_dropout = 0.25;
  GradientCheck check(c);
  expect_gradients(check);
}

// A step in which every token likes expert 0 best, then 1, and so on, with outboxes of `bytes`.
void skewed_step(Case c, int64_t bytes) {
  c.weight_scale = [](const std::string& name, int64_t, int64_t) { return name == "moe.router.weight" ? 0.0 : 0.5; };
  RankOptions options;
  options.sizes = {bytes, 64};
  run_ranks(
      c.lanes,
      [&](Communicator& communicator) {
        Rank rank(c, communicator);
        Sink sink(c.precision.exact);
        rank.run(communicator.rank(), 0, nullptr, &sink);
      },
      options);
}

TEST_P(RoutingVariant, FitsIntoTheOutboxesThatItAsksFor) {
  Case c = GetParam().c;
  c.tokens = 40;
  const int64_t bytes = exchange_bytes(c.options, 1, c.tokens, c.shape.width, Grid(0, c.lanes, c.lanes), Dtype::kF64);
  skewed_step(c, bytes);
  c.training = false;
  skewed_step(c, bytes);
}

std::vector<Variant> smooth_variants() {
  std::vector<Variant> smooth = variants();
  std::erase_if(smooth, [](const Variant& variant) { return !variant.differentiable; });
  return smooth;
}

INSTANTIATE_TEST_SUITE_P(All, RoutingVariant, testing::ValuesIn(variants()), [](const auto& tested) { return tested.param.name; });
INSTANTIATE_TEST_SUITE_P(All, SmoothVariant, testing::ValuesIn(smooth_variants()), [](const auto& tested) { return tested.param.name; });

// The case of a variant, with one lane.
Case case_of(const std::string& name) {
  for (const Variant& variant : variants()) {
    if (variant.name != name) continue;
    Case c = variant.c;
    c.lanes = 1;
    return c;
  }
  throw InternalError("no such variant");
}

// Whether tokens from `first` on change what earlier ones get.
bool looks_ahead(Case c) {
  const std::vector<double> before = run_step(c, 1).at("y 0 0");
  bool changed = false;
  for (const int64_t first : {3, 10, 17}) {
    c.x_scale = [first](int64_t t) { return t < first ? 1.0 : -3.0; };
    const std::vector<double> after = run_step(c, 1).at("y 0 0");
    changed |= !std::equal(before.begin(), before.begin() + static_cast<std::ptrdiff_t>(first * c.shape.width), after.begin());
  }
  return changed;
}

TEST(RoutingVariants, WhatADecoderMayUseDoesNotLookAtLaterTokens) {
  for (const char* name : {"InputJitter", "Sample", "InputDropout", "LogitNoise", "MaskOnly", "Dropless", "Top2Dropless", "Hash"}) {
    EXPECT_FALSE(looks_ahead(case_of(name))) << name;
  }
}

TEST(RoutingVariants, WhatIsRefusedInADecoderDoesLookAtLaterTokens) {
  for (const char* name : {"BatchPrioritised", "ExpertChoice"}) EXPECT_TRUE(looks_ahead(case_of(name))) << name;
}

TEST(RoutingVariants, HostAndKernelsAgreeOnPlainTop1) {
  // In evaluation nothing is sampled, so SAMPLE is plain top-1, by way of the host.
  for (const auto& [precision, tolerance] : {std::pair{kPrecisionF64, 1e-14}, std::pair{kPrecisionF32, 1e-6}}) {
    Case c = case_of("InputJitter");
    c.lanes = 3;
    c.training = false;
    c.precision = precision;
    c.options.eval_capacity_factor = 0.8;
    ASSERT_TRUE(RoutingPolicy::is_plain(c.options));
    const Result kernels = run_step(c, 1);
    c.options.exploration = Exploration::kSample;
    ASSERT_FALSE(RoutingPolicy::is_plain(c.options));
    const Result host = run_step(c, 1);
    ASSERT_EQ(kernels.size(), host.size());
    for (const auto& [name, values] : kernels) {
      const bool exactly = name.starts_with("experts") || name.starts_with("position") || name.starts_with("counts") || name.starts_with("gate");
      for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(host.at(name)[i], values[i], exactly ? 0 : tolerance * (1 + std::abs(values[i]))) << name;
    }
  }
}

TEST(RoutingVariants, AGateOfOneKeepsTheTaskFromTheRouter) {
  for (const char* name : {"MaskOnly", "Top2MaskOnly"}) {
    Case c = case_of(name);
    c.options.balance_loss = c.options.z_loss = 0;
    const Result result = run_step(c, 1);
    EXPECT_EQ(norm(result.at("moe.router.weight 0 0")), 0) << name;
    c.options.gate = GateKind::kProbability;
    EXPECT_GT(norm(run_step(c, 1).at("moe.router.weight 0 0")), 1e-3) << name;
  }
}

TEST(RoutingVariants, TwoChoicesNeedTwiceTheRoom) {
  Case c = case_of("Top2Dropless");
  c.lanes = 2;
  c.options.eval_capacity_factor = 0;
  c.tokens = 64;  // both experts that all tokens choose are on rank 0
  const int64_t rows = 2 * 2 * c.tokens, columns = c.shape.width * 8;
  EXPECT_GE(exchange_bytes(c.options, 1, c.tokens, c.shape.width, Grid(0, 2, 2), Dtype::kF64), rows * columns);
  EXPECT_LE(exchange_bytes(c.options, 1, c.tokens, c.shape.width, Grid(0, 2, 2), Dtype::kF64), (rows + 2 * 2 * kRowMultiple) * columns);
  EXPECT_ANY_THROW(skewed_step(c, rows * columns / 2));
}

TEST(RoutingVariants, RenormalisedGatesOfATokenSumToOneWhateverIsDropped) {
  const Case c = case_of("Top2Renormalised");
  const Result result = run_step(c, 1);
  const std::vector<double>& gates = result.at("gate 0 0");
  for (int64_t t = 0; t < c.tokens; ++t) {
    const double sum = gates[static_cast<size_t>(2 * t)] + gates[static_cast<size_t>(2 * t + 1)];
    EXPECT_NEAR(sum, c.mask(0, t), 1e-12) << "token " << t;
  }
}

TEST(RoutingVariants, HashRoutingHasNoRouter) {
  const Result result = run_step(case_of("Hash"), 1);
  for (const auto& [name, values] : result) EXPECT_FALSE(name.starts_with("moe.router")) << name;
}

TEST(RoutingVariants, ARouterInBf16HasNearlyTheGradientsOfAnExactOne) {
  // Rounding has no slope, so the gradient is that of the product with the rounded operands.
  run_ranks(1, [&](Communicator& communicator) {
    Case c = case_of("RouterBf16");
    Case exact = c;
    exact.options.router_bf16 = false;
    RouteBook book;
    Rank first(exact, communicator), second(c, communicator);
    first.ctx.routes = second.ctx.routes = &book;
    Sink of_exact(Dtype::kF64), of_rounded(Dtype::kF64);
    Result expected, actual;
    first.run(0, 0, &expected, &of_exact);
    book.mode = RouteBook::Mode::kReplay;
    second.run(0, 0, &actual, &of_rounded);
    const std::vector<double> weight = to_doubles(of_exact.tensor("moe.router.weight 0 0"));
    EXPECT_GT(norm(weight), 0.1);
    for (const auto& [ours, theirs] :
         {std::pair{to_doubles(of_rounded.tensor("moe.router.weight 0 0")), weight}, std::pair{actual.at("dx 0 0"), expected.at("dx 0 0")}}) {
      EXPECT_GT(relative_error(ours, theirs), 1e-6) << "something must have been rounded";
      EXPECT_LT(relative_error(ours, theirs), 2e-2);
    }
  });
}

TEST(RoutingVariants, ARouterInBf16HasOtherGates) {
  Case c = case_of("RouterBf16");
  const std::vector<double> rounded = run_step(c, 1).at("gate 0 0");
  c.options.router_bf16 = false;
  const std::vector<double> exact = run_step(c, 1).at("gate 0 0");
  double largest = 0;
  for (size_t i = 0; i < exact.size(); ++i) largest = std::max(largest, std::abs(exact[i] - rounded[i]));
  EXPECT_GT(largest, 1e-5);
  EXPECT_LT(largest, 3e-2);
}

TEST(RoutingVariants, ExpertChoiceCountsTokensThatNoExpertChose) {
  Case c = case_of("ExpertChoice");
  c.options.capacity_factor = 0.6;  // one slot of each of 4 experts in groups of 7
  run_ranks(1, [&](Communicator& communicator) {
    Rank rank(c, communicator);
    Result result;
    rank.run(0, 0, &result, nullptr);
    const std::vector<double>& position = result.at("position 0 0");
    int64_t unserved = 0;
    for (int64_t t = 0; t < c.tokens; ++t) {
      const auto first = position.begin() + t * 4;
      unserved += c.mask(0, t) != 0 && std::all_of(first, first + 4, [](double p) { return p < 0; });
    }
    EXPECT_GT(unserved, 0);
    EXPECT_EQ(rank.kept.statistics().dropped, unserved);
    EXPECT_EQ(rank.kept.statistics().requested, rank.kept.statistics().kept);
  });
}

TEST(RoutingVariants, ReplayKeepsWhatTheNewProbabilitiesWouldChange) {
  for (const char* name : {"Top2RandomSecond", "NoTokenLeftBehind", "ExpertChoice", "BatchPrioritised", "Hash"}) {
    const Case c = case_of(name);
    run_ranks(1, [&](Communicator& communicator) {
      Rank rank(c, communicator);
      RouteBook book;
      rank.ctx.routes = &book;
      Result recorded, again, changed;
      rank.run(0, 0, &recorded, nullptr);
      book.mode = RouteBook::Mode::kReplay;
      rank.run(0, 0, &again, nullptr);
      EXPECT_EQ(recorded.at("y 0 0"), again.at("y 0 0")) << name;
      Case other = c;
      other.x_scale = [](int64_t t) { return t % 2 == 0 ? -1.0 : 2.0; };
      Rank elsewhere(other, communicator);
      elsewhere.ctx.routes = &book;
      elsewhere.run(0, 0, &changed, nullptr);
      EXPECT_EQ(recorded.at("experts 0 0"), changed.at("experts 0 0")) << name;
      EXPECT_EQ(recorded.at("position 0 0"), changed.at("position 0 0")) << name;
    });
  }
}

}  // namespace
}  // namespace switchyard
