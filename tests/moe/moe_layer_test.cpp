#include "src/moe/moe_layer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/moe/brute_force.h"
#include "tests/moe/moe_world.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

Case usual() {
  Case c;
  c.options.z_loss = 0.03;
  c.options.balance_loss = 0.2;
  return c;
}

std::vector<NamedCase> cases() {
  std::vector<NamedCase> all;
  const auto add = [&](const std::string& name) -> Case& { return all.emplace_back(NamedCase{name, usual()}).c; };
  add("Usual");
  add("Accumulated").accumulate = 2;
  Case& everything = add("BiasDropoutGroupsPaddingSixExperts");
  everything.shape.bias = true;
  everything.accumulate = 2;
  everything.options.experts = 6;
  everything.options.expert_dropout = 0.3;
  everything.options.group_tokens = 7;  // 24 tokens: the last group is shorter
  everything.options.min_capacity = 2;
  everything.mask = [](int lane, int64_t t) { return lane == 5 || t % (lane + 2) == 1 ? 0 : 1; };  // lane 5 is all padding
  add("Gelu").shape.activation = Activation::kGelu;
  Case& gated = add("GatedGeluBiasDropout");
  gated.shape.activation = Activation::kGelu;
  gated.shape.gated = gated.shape.bias = true;
  gated.accumulate = 2;
  gated.options.expert_dropout = 0.3;
  gated.options.experts = 6;
  Case& skewed = add("AllTokensToOneExpert");
  skewed.options.jitter = 0;
  skewed.weight_scale = [](const std::string& name, int64_t, int64_t) { return name == "moe.router.weight" ? 0.0 : 0.5; };  // ties: expert 0
  skewed.options.capacity_factor = 0;
  Case& few = add("TwoExperts");  // on 4 and 8 ranks most host none
  few.options.experts = 2;
  few.accumulate = 2;
  Case& evaluation = add("Evaluation");
  evaluation.training = false;
  evaluation.options.expert_dropout = 0.5;
  evaluation.options.eval_capacity_factor = 0;
  return all;
}

class MoeLayerCase : public testing::TestWithParam<NamedCase> {};

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return 1e300;
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += a[i] * a[i] + b[i] * b[i];
  }
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

TEST_P(MoeLayerCase, ValuesAndGradientsAreThoseOfTheBruteForceReference) {
  const Case& c = GetParam().c;
  const Result expected = brute_force(c), actual = run_step(c, 1);
  for (const auto& [name, values] : expected) {
    const auto found = actual.find(name);
    ASSERT_NE(found, actual.end()) << name << " was not computed";
    EXPECT_LE(distance(values, found->second), 1e-12) << name << " differs from the brute-force reference";
  }
  for (const auto& [name, values] : actual) EXPECT_TRUE(expected.contains(name)) << name << " should not exist: nothing reaches it";
}

TEST_P(MoeLayerCase, BitsAreTheSameOnAnyNumberOfRanks) {
  Case c = GetParam().c;
  c.precision = kPrecisionF32;
  const Result alone = run_step(c, 1);
  for (const int ranks : {2, 3, 4, 8}) {
    EXPECT_EQ(differences(alone, run_step(c, ranks)), "") << "on " << ranks << " ranks";
  }
}

INSTANTIATE_TEST_SUITE_P(All, MoeLayerCase, testing::ValuesIn(cases()), [](const auto& tested) { return tested.param.name; });

TEST(MoeLayer, ALaneWithoutRanksOfItsOwnAddsNothing) {
  // Three lanes on 2 ranks: the second round has an empty lane, which must not turn an Out into a second term.
  Case c = usual();
  c.lanes = 3;
  EXPECT_EQ(differences(run_step(c, 1), run_step(c, 2)), "");
}

TEST(MoeLayer, DroppedTokensAndPaddingGiveZeroAndHaveNoGradientThroughTheGate) {
  Case c = usual();
  c.lanes = 1;
  c.options.capacity_factor = 0.5;
  c.options.balance_loss = 0;
  c.mask = [](int, int64_t t) { return t == 4 ? 0 : 1; };
  const Result result = run_step(c, 1);
  const size_t width = static_cast<size_t>(c.shape.width);
  int dropped = 0;
  c.options.z_loss = 0;
  const Result without_z = run_step(c, 1);
  for (size_t t = 0; t < static_cast<size_t>(c.tokens); ++t) {
    const bool has_entry = result.at("position 0 0")[t] >= 0;
    double y = 0, dx = 0, dx_of_z = 0;
    for (size_t d = 0; d < width; ++d) {
      y += std::abs(result.at("y 0 0")[t * width + d]);
      dx += std::abs(without_z.at("dx 0 0")[t * width + d]);
      dx_of_z += std::abs(result.at("dx 0 0")[t * width + d]);
    }
    EXPECT_EQ(y > 0, has_entry) << "token " << t;
    EXPECT_EQ(dx > 0, has_entry) << "token " << t << ": without an entry neither its expert nor its gate may reach x";
    EXPECT_EQ(dx_of_z > 0, t != 4) << "token " << t << ": a dropped token still takes part in the router's own losses, padding does not";
    dropped += !has_entry && t != 4;
  }
  EXPECT_GT(dropped, 0) << "the case must drop tokens";
}

TEST(MoeLayer, LaterTokensDoNotChangeTheOutputOfEarlierOnes) {
  Case c = usual();
  c.lanes = 1;
  const std::vector<double> before = run_step(c, 1).at("y 0 0");
  for (const int64_t first : {1, 9, 23}) {
    c.x_scale = [first](int64_t t) { return t < first ? 1.0 : -3.0; };
    const std::vector<double> after = run_step(c, 1).at("y 0 0");
    const auto end = static_cast<std::ptrdiff_t>(first * c.shape.width);
    EXPECT_TRUE(std::equal(before.begin(), before.begin() + end, after.begin())) << "tokens from " << first << " on were changed";
    EXPECT_FALSE(std::equal(before.begin() + end, before.end(), after.begin() + end)) << "the change must be seen at all";
  }
}

TEST(MoeLayer, EvaluationTwiceGivesTheSameBits) {
  Case c = usual();
  c.training = false;
  c.options.expert_dropout = 0.4;
  run_ranks(1, [&](Communicator& communicator) {
    Rank rank(c, communicator);
    Result first, second;
    rank.run(0, 0, &first, nullptr);
    rank.ctx.key.step = 1;  // nothing may be drawn from it
    rank.ctx.key.seed = 99;
    rank.run(0, 0, &second, nullptr);
    EXPECT_EQ(differences(first, second), "");
  });
}

TEST(MoeLayer, TrainingDrawsByStep) {
  Case c = usual();
  c.options.expert_dropout = 0.4;
  run_ranks(1, [&](Communicator& communicator) {
    Rank rank(c, communicator);
    Result first, again, next;
    rank.run(0, 0, &first, nullptr);
    rank.run(0, 0, &again, nullptr);
    rank.ctx.key.step = 1;
    rank.run(0, 0, &next, nullptr);
    EXPECT_EQ(differences(first, again), "") << "the same step draws the same numbers";
    EXPECT_NE(first.at("y 0 0"), next.at("y 0 0"));
    EXPECT_NE(first.at("sums 0 0"), next.at("sums 0 0"));
  });
}

TEST(MoeLayer, WithoutDropsATokensOutputDoesNotDependOnItsBatch) {
  Case c = usual();
  c.training = false;
  c.options.eval_capacity_factor = 0;
  c.precision = kPrecisionF32;
  c.lanes = 1;
  const Result batch = run_step(c, 1);
  const size_t width = static_cast<size_t>(c.shape.width);
  c.tokens = 1;  // x depends on (lane, token): token 0
  const Result alone = run_step(c, 1);
  const std::vector<double> first(batch.at("y 0 0").begin(), batch.at("y 0 0").begin() + static_cast<std::ptrdiff_t>(width));
  EXPECT_EQ(first, alone.at("y 0 0"));
}

TEST(MoeLayer, ParametersHaveGlobalNamesAndOnlyHostedExpertsHaveMemory) {
  Case c = usual();
  c.shape.bias = true;
  c.options.experts = 3;
  run_ranks(2, [&](Communicator& communicator) {
    Rank rank(c, communicator);
    std::vector<std::string> names;
    rank.layer.visit([&](Parameter& parameter) {
      names.push_back(parameter.name);
      const bool expert = parameter.kind == ParameterKind::kExpert;
      EXPECT_EQ(expert, parameter.name != "moe.router.weight");
      EXPECT_EQ(parameter.decay, parameter.shape.rank() == 2) << parameter.name;
      EXPECT_EQ(parameter.moe_layer, expert ? 3 : -1);
      const bool here = !expert || rank.grid.owner(3, parameter.expert, 3) == communicator.rank();
      EXPECT_EQ(parameter.hosted(), here) << parameter.name << " on rank " << communicator.rank();
    });
    std::vector<std::string> expected{"moe.router.weight"};
    for (int e = 0; e < 3; ++e) {
      for (const char* part : {"in.weight", "in.bias", "out.weight", "out.bias"}) expected.push_back("moe.expert." + std::to_string(e) + "." + part);
    }
    EXPECT_EQ(names, expected);
    EXPECT_TRUE(rank.weights["moe.router.weight"].forms.packed_exact) << "the router is multiplied in the exact dtype";
  });
}

TEST(MoeLayer, MemoryDoesNotGrowFromStepToStep) {
  Case c = usual();
  c.lanes = 2;
  run_ranks(2, [&](Communicator& communicator) {
    Rank rank(c, communicator);
    Sink sink(c.precision.exact);
    rank.run(communicator.rank(), 0, nullptr, &sink);
    const int64_t saved = rank.saved.reserved(), scratch = rank.scratch.reserved();
    for (uint32_t step = 1; step < 20; ++step) {
      rank.ctx.key.step = step;
      rank.run(communicator.rank(), 0, nullptr, &sink);
    }
    EXPECT_EQ(rank.saved.reserved(), saved);
    EXPECT_EQ(rank.scratch.reserved(), scratch);
    EXPECT_EQ(rank.saved.used(), 0) << "the layer must leave nothing beyond the caller's mark";
  });
}

TEST(MoeLayer, EveryCollectiveIsTracedWithTheBytesThatItSends) {
  Case c = usual();
  c.lanes = 4;
  RankOptions options;
  options.checked = false;  // its own gathers are not the layer's
  run_ranks(
      4,
      [&](Communicator& communicator) {
        Rank rank(c, communicator);
        rank.trace.record(1000);
        Sink sink(c.precision.exact);
        rank.run(communicator.rank(), 0, nullptr, &sink);
        EXPECT_EQ(rank.trace.bytes(SpanKind::kAllToAll), communicator.bytes_sent());
        std::vector<std::string> names;
        for (const TraceEvent& event : rank.trace.events()) {
          if (event.kind != SpanKind::kAllToAll || std::string(event.name) == "outbox") continue;
          names.push_back(event.name);
          EXPECT_EQ(event.layer, 3);
        }
        // Of each transfer the start and the wait.
        const std::vector<std::string> expected{"expert counts",    "dispatch",         "dispatch",          "combine",          "combine",
                                                "combine backward", "combine backward", "dispatch backward", "dispatch backward"};
        EXPECT_EQ(names, expected);
      },
      options);
}

}  // namespace
}  // namespace switchyard
