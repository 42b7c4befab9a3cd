#include "src/moe/router_state.h"

#include "tests/moe/gradient_check.h"

namespace switchyard {
namespace {

MoeOptions with(double bias_rate, BalanceScope scope) {
  MoeOptions options;
  options.experts = 4;
  options.bias_rate = bias_rate;
  options.balance_scope = scope;
  return options;
}

TEST(RouterState, NothingIsRememberedUnlessItIsAskedFor) {
  RouterState state = make_router_state("r", with(0, BalanceScope::kPerGroup));
  state.advance({1, 2, 3, 4});
  EXPECT_TRUE(state.bias.empty());
  EXPECT_TRUE(state.counts.empty());
  EXPECT_TRUE(state.fractions().empty());
}

// The mean, 2.75, is not whole: 3 is above it and 2 below.
TEST(RouterState, TheBiasGoesUpWhereAnExpertHadLessThanTheMean) {
  RouterState state = make_router_state("r", with(0.125, BalanceScope::kPerGroup));
  state.advance({3, 2, 6, 0});
  EXPECT_EQ(state.bias, (std::vector<float>{-0.125f, 0.125f, -0.125f, 0.125f}));
  state.advance({3, 2, 6, 0});
  EXPECT_EQ(state.bias, (std::vector<float>{-0.25f, 0.25f, -0.25f, 0.25f}));
}

TEST(RouterState, TheBiasStaysWhereTheLoadIsTheMean) {
  RouterState state = make_router_state("r", with(0.5, BalanceScope::kPerGroup));
  state.advance({2, 2, 3, 1});
  EXPECT_EQ(state.bias, (std::vector<float>{0, 0, -0.5f, 0.5f}));
  RouterState idle = make_router_state("r", with(0.5, BalanceScope::kPerGroup));
  idle.advance({0, 0, 0, 0});
  EXPECT_EQ(idle.bias, std::vector<float>(4, 0)) << "a step without tokens";
}

TEST(RouterState, FractionsAreThoseOfTheLastStepAndUniformBeforeIt) {
  RouterState state = make_router_state("r", with(0, BalanceScope::kGlobal));
  EXPECT_EQ(state.fractions(), std::vector<double>(4, 0.25));
  state.advance({7, 7, 7, 7});
  state.advance({1, 3, 0, 4});
  EXPECT_EQ(state.fractions(), (std::vector<double>{0.125, 0.375, 0, 0.5}));
}

// bf16 and f32 lose whole numbers long before a large step has them.
TEST(RouterState, CountsBeyond32BitsAreExact) {
  const int64_t many = (int64_t{1} << 33) + 1;
  RouterState state = make_router_state("r", with(1, BalanceScope::kGlobal));
  state.advance({many, many, many, many - 1});
  EXPECT_EQ(state.counts[0], many);
  EXPECT_EQ(state.bias, (std::vector<float>{-1, -1, -1, 1}));
}

Case remembering() {
  Case c;
  c.options.bias_rate = 0.01;
  c.options.balance_scope = BalanceScope::kGlobal;
  c.options.balance_loss = 0.7;
  c.options.group_tokens = 7;
  c.mask = [](int lane, int64_t t) { return t % (lane + 3) == 1 ? 0 : 1; };
  c.remember = [](RouterState& state) {
    state.bias = {0.1f, -0.2f, 0.15f, 0};
    state.counts = {6, 3, 3, 0};
  };
  return c;
}

// The expert of the largest probability plus bias; its gate is the probability alone. Evaluation uses the bias, too.
TEST(RouterState, ABiasChoosesAndNeverWeighs) {
  for (const bool training : {true, false}) {
    Case c = remembering();
    c.training = training;
    const auto communicator = make_self_communicator({});
    Rank rank(c, *communicator);
    const Arena::Mark mark(rank.saved);
    const Tensor x = rank.ctx.keep(Dtype::kF64, {c.tokens, c.shape.width});
    fill(x, [&](int64_t t, int64_t d) { return c.x(0, 0, t, d); });
    rank.layer.forward(rank.ctx, x, {.sequence_length = c.tokens, .loss = c.loss()}, rank.kept);

    const RouterState& state = rank.layer.router_state();
    int changed = 0;
    for (int64_t t = 0; t < c.tokens; ++t) {
      const double* p = rank.kept.router.probabilities.row<double>(t);
      const auto best = [&](double weight) {
        int64_t chosen = 0;
        for (int64_t e = 1; e < 4; ++e) {
          const auto score = [&](int64_t i) { return p[i] + weight * static_cast<double>(state.bias[static_cast<size_t>(i)]); };
          if (score(e) > score(chosen)) chosen = e;
        }
        return chosen;
      };
      const int32_t expert = *rank.kept.route().expert.row<int32_t>(t);
      EXPECT_EQ(expert, best(1)) << "token " << t;
      EXPECT_EQ(*rank.kept.route().gate.row<double>(t), p[expert]) << "token " << t;
      changed += best(1) != best(0) ? 1 : 0;
    }
    EXPECT_GT(changed, 2) << "the bias is too small to test anything";
    EXPECT_EQ(state.bias[1], -0.2f) << "a forward changed the state";
  }
}

TEST(RouterState, TheBalanceLossOfWholeStepsHasTheirFractions) {
  const Case c = remembering();
  const auto communicator = make_self_communicator({});
  Rank rank(c, *communicator);
  const Arena::Mark mark(rank.saved);
  const Tensor x = rank.ctx.keep(Dtype::kF64, {c.tokens, c.shape.width}), mask = rank.ctx.keep(Dtype::kI32, {c.tokens});
  fill(x, [&](int64_t t, int64_t d) { return c.x(0, 0, t, d); });
  fill(mask, [&](int64_t t, int64_t) { return c.mask(0, t); });
  rank.layer.forward(rank.ctx, x, {.mask = mask, .sequence_length = c.tokens, .loss = c.loss()}, rank.kept);

  const std::vector<double> f = {0.5, 0.25, 0.25, 0};
  double expected = 0;
  for (int64_t first = 0; first < c.tokens; first += 7) {
    double sum = 0, count = 0;
    for (int64_t t = first; t < std::min(first + 7, c.tokens); ++t) {
      if (c.mask(0, t) == 0) continue;
      ++count;
      for (size_t e = 0; e < f.size(); ++e) sum += f[e] * rank.kept.router.probabilities.row<double>(t)[e];
    }
    expected += c.loss().balance * sum / count;
  }
  EXPECT_NEAR(rank.kept.statistics().sums[0], expected, 1e-12);
}

TEST(RouterState, GradientsAgreeWithDifferences) {
  Case c = remembering();
  c.lanes = 1;
  c.tokens = 14;
  GradientCheck check(c);
  expect_gradients(check);
  check.without_task_loss();
  EXPECT_GT(norm(check.analytic().at("moe.router.weight")), 1e-3) << "the balance loss alone";
  expect_gradients(check);
}

TEST(RouterState, BitsAreTheSameOnAnyNumberOfRanks) {
  Case c = remembering();
  c.backend = [] { return make_cpu_backend(1); };
  c.precision = kPrecisionF32;
  const Result alone = run_step(c, 1);
  for (const int ranks : {2, 3, 4, 8}) EXPECT_EQ(differences(alone, run_step(c, ranks)), "") << "on " << ranks << " ranks";
}

}  // namespace
}  // namespace switchyard
