#include "src/moe/router_state.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace switchyard
