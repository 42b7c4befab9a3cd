// Shared experts: a feed-forward layer that every token passes, beside the routed experts.
#include "tests/moe/gradient_check.h"

namespace switchyard {
namespace {

Case shared(int experts) {
  Case c;
  c.options.shared_experts = experts;
  c.shape.bias = true;
  c.mask = [](int lane, int64_t t) { return t % (lane + 3) == 1 ? 0 : 1; };
  return c;
}

// What two shared experts make of one token.
std::vector<double> shared_output(const Case& c, int lane, int64_t t) {
  const int64_t width = c.shape.width, hidden = 2 * c.shape.feed_forward;
  std::vector<double> y;
  for (int64_t d = 0; d < width; ++d) y.push_back(c.weight("moe.shared.out.bias", 0, d, width));
  for (int64_t f = 0; f < hidden; ++f) {
    double h = c.weight("moe.shared.in.bias", 0, f, hidden);
    for (int64_t d = 0; d < width; ++d) h += c.weight("moe.shared.in.weight", f, d, width) * c.x(lane, 0, t, d);
    for (int64_t d = 0; h > 0 && d < width; ++d) y[static_cast<size_t>(d)] += c.weight("moe.shared.out.weight", d, f, hidden) * h;
  }
  return y;
}

TEST(SharedExperts, TheirOutputIsAddedToThatOfTheRoutedOnes) {
  const Case c = shared(2);
  const Result with = run_step(c, 1), without = run_step(shared(0), 1);
  for (int lane = 0; lane < c.lanes; ++lane) {
    const std::vector<double>&y = with.at("y" + place_of(lane, 0)), routed = without.at("y" + place_of(lane, 0));
    for (int64_t t = 0; t < c.tokens; ++t) {
      const std::vector<double> expected = shared_output(c, lane, t);
      for (int64_t d = 0; d < c.shape.width; ++d) {
        const size_t i = static_cast<size_t>(t * c.shape.width + d);
        EXPECT_NEAR(y[i], routed[i] + expected[static_cast<size_t>(d)], 1e-12) << "lane " << lane << ", token " << t;
      }
    }
  }
}

TEST(SharedExperts, GradientsAgreeWithDifferences) {
  Case c = shared(2);
  c.lanes = 1;
  c.tokens = 14;
  c.shape.width = 5;
  c.shape.feed_forward = 7;
  c.options.experts = 3;
  c.options.expert_dropout = 0.25;
  c.options.balance_loss = 0.7;
  GradientCheck check(c);
  EXPECT_TRUE(check.analytic().contains("moe.shared.in.weight"));
  expect_gradients(check);
}

TEST(SharedExperts, BitsAreTheSameOnAnyNumberOfRanks) {
  Case c = shared(2);
  c.options.experts = 6;
  c.options.expert_dropout = 0.3;
  c.accumulate = 2;
  c.backend = [] { return make_cpu_backend(1); };
  for (const Precision& precision : {kPrecisionF32, kPrecisionBF16}) {
    c.precision = precision;
    const Result alone = run_step(c, 1);
    for (const int ranks : {2, 3, 4, 8}) EXPECT_EQ(differences(alone, run_step(c, ranks)), "") << "on " << ranks << " ranks, " << name(precision.activation);
  }
}

// Backward closes dense parameters in the reverse of forward order: the buckets of gradients depend on it.
TEST(SharedExperts, AreClosedBeforeTheRouter) {
  const Case c = shared(1);
  const auto communicator = make_self_communicator({});
  Rank rank(c, *communicator);
  Sink sink(c.precision.exact);
  rank.run(0, 0, nullptr, &sink);
  EXPECT_EQ(sink.order(),
            (std::vector<std::string>{"moe.shared.out.bias", "moe.shared.out.weight", "moe.shared.in.bias", "moe.shared.in.weight", "moe.router.weight"}));
}

}  // namespace
}  // namespace switchyard
