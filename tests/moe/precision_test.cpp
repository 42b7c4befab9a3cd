// The layer as it runs: the cpu backend, F32 and BF16, against the f64 brute-force reference and against other ranks.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/moe/brute_force.h"
#include "tests/moe/moe_world.h"

namespace switchyard {
namespace {

struct CpuCase {
  Precision precision;
  bool gated_gelu;  // else ReLU, on the product's way out
};

Case on_cpu(const CpuCase& tested) {
  Case c;
  c.backend = [] { return make_cpu_backend(1); };
  c.precision = tested.precision;
  c.shape = {.width = 96, .feed_forward = 160, .bias = true, .initializer_scale = 0.1};
  if (tested.gated_gelu) {
    c.shape.activation = Activation::kGelu;
    c.shape.gated = true;
  }
  c.options.experts = 6;
  c.options.jitter = 0.05;
  c.options.balance_loss = 0.2;
  c.options.z_loss = 0.03;
  c.options.expert_dropout = 0.2;
  c.tokens = 70;
  c.accumulate = 2;
  c.mask = [](int lane, int64_t t) { return lane == 5 || t % (lane + 3) == 1 ? 0 : 1; };
  c.weight_scale = [](const std::string&, int64_t, int64_t) { return 0.1; };
  return c;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = a.size() == b.size() ? 0 : 1e300;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

double largest(const std::vector<double>& a) { return largest_difference(a, std::vector<double>(a.size(), 0.0)); }

class OnCpu : public testing::TestWithParam<CpuCase> {};

TEST_P(OnCpu, BitsAreTheSameOnAnyNumberOfRanks) {
  const Case c = on_cpu(GetParam());
  const Result alone = run_step(c, 1);
  for (const int ranks : {2, 3, 4, 8}) EXPECT_EQ(differences(alone, run_step(c, ranks)), "") << "on " << ranks << " ranks";
}

TEST_P(OnCpu, BitsAreTheSameOnAnyNumberOfThreads) {
  Case c = on_cpu(GetParam());
  c.lanes = 2;
  c.accumulate = 1;
  const Result one = run_step(c, 1);
  c.backend = [] { return make_cpu_backend(2); };
  EXPECT_EQ(differences(one, run_step(c, 1)), "");
}

// The paper's selective precision: whatever the activations are, everything of the router is exact.
TEST_P(OnCpu, TheRouterIsExact) {
  const Case c = on_cpu(GetParam());
  const Result expected = brute_force(c), actual = run_step(c, 1);
  for (int lane = 0; lane < c.lanes; ++lane) {
    for (int a = 0; a < c.accumulate; ++a) {
      const std::string place = place_of(lane, a);
      for (const char* name : {"experts", "position", "counts"}) EXPECT_EQ(expected.at(name + place), actual.at(name + place)) << name << place;
      EXPECT_LE(largest_difference(expected.at("gate" + place), actual.at("gate" + place)), 2e-6) << "gates of" << place;
      const std::vector<double>&sums = expected.at("sums" + place), &found = actual.at("sums" + place);
      EXPECT_LE(largest_difference(sums, found), 1e-6 * (1 + largest(sums))) << "losses of" << place;
    }
  }
}

TEST_P(OnCpu, ValuesAndGradientsAreNearTheBruteForceReference) {
  const Case c = on_cpu(GetParam());
  const double tolerance = c.precision.activation == Dtype::kBF16 ? 2e-2 : 1e-5;
  const Result expected = brute_force(c), actual = run_step(c, 1);
  for (const auto& [name, values] : expected) {
    const auto found = actual.find(name);
    ASSERT_NE(found, actual.end()) << name << " was not computed";
    EXPECT_LE(largest_difference(values, found->second), tolerance * largest(values)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, OnCpu, testing::Values(CpuCase{kPrecisionF32, false}, CpuCase{kPrecisionBF16, false}, CpuCase{kPrecisionF32, true}, CpuCase{kPrecisionBF16, true}),
    [](const auto& tested) { return std::string(name(tested.param.precision.activation)) + (tested.param.gated_gelu ? "GatedGelu" : ""); });

}  // namespace
}  // namespace switchyard
