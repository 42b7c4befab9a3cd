#include "src/layers/feed_forward.h"

#include "tests/layers/layer_check.h"

namespace switchyard::test {
namespace {

void check_gradients(bool bias, double dropout) {
  LayerCheck check;
  FeedForwardLayer layer = FeedForwardLayer::make("test", {.width = 5, .hidden = 12, .bias = bias, .dropout = dropout}, 1);
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

TEST(FeedForward, GradientsAreSlopes) { check_gradients(false, 0); }
TEST(FeedForward, GradientsAreSlopesWithBias) { check_gradients(true, 0); }
TEST(FeedForward, GradientsAreSlopesUnderDropout) { check_gradients(true, 0.4); }

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
