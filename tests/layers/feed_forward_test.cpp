#include "src/layers/feed_forward.h"

#include <cmath>

#include "tests/layers/layer_check.h"

namespace switchyard::test {
namespace {

void check_gradients(FeedForwardLayer::Options options) {
  LayerCheck check;
  options.width = 5;
  options.hidden = 12;
  FeedForwardLayer layer = FeedForwardLayer::make("test", options, 1);
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.normal({6, 5}, 2);
  FeedForwardLayer::Saved saved;
  check.run(
      {6, 5}, [&] { return layer.forward(check.ctx(), x, saved); }, [&](Tensor dy) { return layer.backward(check.ctx(), dy, saved, check.grads); },
      [&](Tensor dx) {
        return std::vector<Checked>{{"x", x, dx}};
      });
}

constexpr Activation kRelu = Activation::kRelu, kGelu = Activation::kGelu;

TEST(FeedForward, GradientsAreSlopes) { check_gradients({}); }
TEST(FeedForward, GradientsAreSlopesWithBias) { check_gradients({.bias = true}); }
TEST(FeedForward, GradientsAreSlopesUnderDropout) { check_gradients({.bias = true, .dropout = 0.4}); }
TEST(FeedForward, GradientsAreSlopesOfGelu) { check_gradients({.activation = kGelu}); }
TEST(FeedForward, GradientsAreSlopesOfGeluWithBiasUnderDropout) { check_gradients({.bias = true, .dropout = 0.4, .activation = kGelu}); }
TEST(FeedForward, GradientsAreSlopesOfGatedGelu) { check_gradients({.activation = kGelu, .gated = true}); }
TEST(FeedForward, GradientsAreSlopesOfGatedGeluWithBiasUnderDropout) { check_gradients({.bias = true, .dropout = 0.4, .activation = kGelu, .gated = true}); }
TEST(FeedForward, GradientsAreSlopesOfGatedRelu) { check_gradients({.bias = true, .dropout = 0.4, .activation = kRelu, .gated = true}); }

// y = W_out (gelu(W_in x) * W_gate x), element by element.
TEST(FeedForward, GatedGeluIsItsFormula) {
  constexpr int64_t kRows = 3, kWidth = 4, kHidden = 6;
  LayerCheck check;
  FeedForwardLayer layer = FeedForwardLayer::make("test", {.width = kWidth, .hidden = kHidden, .activation = kGelu, .gated = true}, 0);
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.normal({kRows, kWidth}, 2);
  const auto product = [&](const LinearLayer& linear, int64_t row, int64_t f) {
    double total = 0;
    for (int64_t d = 0; d < kWidth; ++d) total += get(check.store.master(linear.weight), f * kWidth + d) * get(x, row * kWidth + d);
    return total;
  };
  FeedForwardLayer::Saved saved;
  const Tensor y = layer.forward(check.ctx(), x, saved);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t d = 0; d < kWidth; ++d) {
      double expected = 0;
      for (int64_t f = 0; f < kHidden; ++f) {
        const double u = product(layer.in, r, f), gelu = 0.5 * u * (1 + std::tanh(std::sqrt(2 / M_PI) * (u + 0.044715 * u * u * u)));
        expected += get(check.store.master(layer.out.weight), d * kHidden + f) * gelu * product(layer.gate, r, f);
      }
      EXPECT_NEAR(get(y, r * kWidth + d), expected, 1e-12) << "row " << r << ", column " << d;
    }
  }
}

// The same layer with the same numbers, in BF16 on the fast backend.
TEST(FeedForward, GatedGeluInBf16IsNearF32) {
  const auto run = [](Bench& bench) {
    TestStore store(*bench.backend, bench.ctx.precision);
    TestGradients grads(bench.ctx.precision.exact);
    FeedForwardLayer layer = FeedForwardLayer::make("test", {.width = 32, .hidden = 48, .activation = kGelu, .gated = true}, 0);
    layer.visit(store.visitor());
    store.fill(1);
    const Tensor x = bench.normal({64, 32}, 2), dy = bench.normal({64, 32}, 3);
    FeedForwardLayer::Saved saved;
    layer.forward(bench.ctx, x, saved);
    return bench.copy(layer.backward(bench.ctx, dy, saved, grads));
  };
  Bench wide(kPrecisionF32), narrow(kPrecisionBF16, make_cpu_backend(2));
  const Tensor dx = run(narrow);
  EXPECT_EQ(dx.dtype(), Dtype::kBF16);
  EXPECT_LT(distance(dx, run(wide)), 0.02) << "64 rows through three products of 32 to 48 terms";
}

TEST(FeedForward, GatedParametersAreClosedInReverseWithoutRows) {
  LayerCheck check;
  FeedForwardLayer layer = FeedForwardLayer::make("test", {.width = 5, .hidden = 12, .bias = true, .activation = kGelu, .gated = true}, 1);
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.tensor(Dtype::kF64, {0, 5});
  FeedForwardLayer::Saved saved;
  layer.forward(check.ctx(), x, saved);
  layer.backward(check.ctx(), x, saved, check.grads);
  std::vector<std::string> reversed;
  for (const Parameter* parameter : check.store.parameters()) reversed.insert(reversed.begin(), parameter->name);
  EXPECT_EQ(reversed.size(), 6u);
  EXPECT_EQ(check.grads.closed(), reversed);
  for (const Parameter* parameter : check.store.parameters()) {
    EXPECT_EQ(dot(check.grads.gradient(*parameter), check.grads.gradient(*parameter)), 0) << parameter->name;
  }
}

TEST(FeedForward, NoRowsGiveZeroGradients) {
  LayerCheck check;
  FeedForwardLayer layer = FeedForwardLayer::make("test", {.width = 5, .hidden = 12, .bias = true, .dropout = 0.4}, 1);
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.tensor(Dtype::kF64, {0, 5});
  FeedForwardLayer::Saved saved;
  layer.forward(check.ctx(), x, saved);
  layer.backward(check.ctx(), x, saved, check.grads);
  EXPECT_EQ(check.grads.closed(), (std::vector<std::string>{"test.out.bias", "test.out.weight", "test.in.bias", "test.in.weight"}));
  for (const Parameter* parameter : check.store.parameters()) {
    EXPECT_EQ(dot(check.grads.gradient(*parameter), check.grads.gradient(*parameter)), 0) << parameter->name;
  }
}

TEST(FeedForward, InitialisersAreThePapersThroughMesh) {
  FeedForwardLayer layer = FeedForwardLayer::make("test", {.width = 40, .hidden = 90, .initializer_scale = 0.1}, 0);
  EXPECT_EQ(layer.in.weight.initializer.kind, Initializer::Kind::kTruncatedNormal);
  EXPECT_DOUBLE_EQ(layer.in.weight.initializer.deviation, std::sqrt(0.1 / 40));
  EXPECT_DOUBLE_EQ(layer.out.weight.initializer.deviation, std::sqrt(0.1 / 90));
}

}  // namespace
}  // namespace switchyard::test
