#include "tests/moe/gradient_check.h"

namespace switchyard {
namespace {

Case small() {
  Case c;
  c.lanes = 1;
  c.tokens = 14;
  c.shape = {.width = 5, .feed_forward = 7, .bias = true, .initializer_scale = 0.1};
  c.options.experts = 3;
  c.options.group_tokens = 6;
  c.options.capacity_factor = 1.0;
  c.options.jitter = 0.2;
  c.options.balance_loss = 0.7;
  c.options.z_loss = 0.4;
  c.options.expert_dropout = 0.25;
  c.mask = [](int, int64_t t) { return t == 3 ? 0 : 1; };
  return c;
}

Case gated_gelu() {
  Case c = small();
  c.shape.activation = Activation::kGelu;
  c.shape.gated = true;
  return c;
}

TEST(MoeGradient, AgreesWithDifferencesForEveryEntry) {
  GradientCheck check(small());
  EXPECT_GE(check.analytic().size(), 2u + 4u * 2u) << "x, router and the parameters of at least two experts";
  expect_gradients(check);
}

TEST(MoeGradient, OfGatedGeluExperts) {
  GradientCheck check(gated_gelu());
  EXPECT_GE(check.analytic().size(), 2u + 6u * 2u) << "x, router and the parameters of at least two experts";
  expect_gradients(check);
}

TEST(MoeGradient, OfGeluExpertsWithoutDropout) {
  Case c = small();
  c.shape.activation = Activation::kGelu;
  c.options.expert_dropout = 0;
  GradientCheck check(c);
  expect_gradients(check);
}

TEST(MoeGradient, APlantedFactorIsCaught) {
  for (const Case& c : {small(), gated_gelu()}) {
    GradientCheck check(c);
    for (auto [name, values] : check.analytic()) {
      const std::vector<double> numeric = check.numeric(name);
      for (double& value : values) value *= 1.001;
      EXPECT_GT(relative_error(values, numeric), 1e-6) << name;
    }
  }
}

TEST(MoeGradient, TheTaskReachesTheRouterThroughTheGateAlone) {
  Case c = small();
  c.options.balance_loss = 0;
  c.options.z_loss = 0;
  GradientCheck check(c);
  EXPECT_GT(norm(check.analytic().at("moe.router.weight")), 1e-3) << "the gate must not be renormalised: the router would learn nothing";
  expect_gradients(check);
}

TEST(MoeGradient, BalanceLossAlone) {
  Case c = small();
  c.options.z_loss = 0;
  GradientCheck check(c);
  check.without_task_loss();
  EXPECT_GT(norm(check.analytic().at("moe.router.weight")), 1e-3);
  expect_gradients(check);
}

TEST(MoeGradient, ZLossAlone) {
  Case c = small();
  c.options.balance_loss = 0;
  GradientCheck check(c);
  check.without_task_loss();
  EXPECT_GT(norm(check.analytic().at("moe.router.weight")), 1e-3);
  expect_gradients(check);
}

TEST(MoeGradient, WithoutLossesThereIsNoGradient) {
  Case c = small();
  c.options.balance_loss = 0;
  c.options.z_loss = 0;
  GradientCheck check(c);
  check.without_task_loss();
  for (const auto& [name, values] : check.analytic()) EXPECT_EQ(norm(values), 0) << name;
}

}  // namespace
}  // namespace switchyard
