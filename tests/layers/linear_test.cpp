#include "src/layers/linear.h"

#include "src/layers/initializers.h"
#include "tests/layers/layer_check.h"

namespace switchyard::test {
namespace {

void check_gradients(bool bias, int64_t rows) {
  LayerCheck check;
  LinearLayer layer = LinearLayer::make("test", 5, 7, bias, normal(1));
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.normal({rows, 7}, 2);
  LinearLayer::Saved saved;
  check.run(
      {rows, 5},
      [&] {
        const Tensor y = check.ctx().temporary(Dtype::kF64, {rows, 5});
        layer.forward(check.ctx(), x, saved, Out(y));
        return y;
      },
      [&](Tensor dy) {
        const Tensor dx = check.ctx().temporary(Dtype::kF64, x.shape());
        layer.backward(check.ctx(), dy, saved, check.grads, Out(dx));
        return dx;
      },
      [&](Tensor dx) {
        return std::vector<Checked>{{"x", x, dx}};
      });
}

TEST(Linear, GradientsAreSlopes) {
  check_gradients(false, 3);
  check_gradients(true, 3);
}

// <A x, y> = <x, A' y>, and the same for the weight.
TEST(Linear, BackwardIsTheAdjointOfForward) {
  LayerCheck check;
  LinearLayer layer = LinearLayer::make("test", 6, 9, false, normal(1));
  layer.visit(check.store.visitor());
  check.store.fill(3);
  const Tensor x = check.bench.normal({4, 9}, 4), dy = check.bench.normal({4, 6}, 5);
  const Tensor y = check.bench.tensor(Dtype::kF64, {4, 6}), dx = check.bench.tensor(Dtype::kF64, {4, 9});
  LinearLayer::Saved saved;
  layer.forward(check.ctx(), x, saved, Out(y));
  layer.backward(check.ctx(), dy, saved, check.grads, Out(dx));
  const double forward = dot(y, dy);
  EXPECT_NEAR(dot(x, dx), forward, 1e-12 * std::abs(forward));
  EXPECT_NEAR(dot(check.store.master(layer.weight), check.grads.gradient(layer.weight)), forward, 1e-12 * std::abs(forward));
}

TEST(Linear, NoRowsGiveZeroGradientsAndTheSameCalls) {
  LayerCheck check;
  LinearLayer layer = LinearLayer::make("test", 6, 9, true, normal(1));
  layer.visit(check.store.visitor());
  check.store.fill(3);
  const Tensor x = check.bench.tensor(Dtype::kF64, {0, 9}), dy = check.bench.tensor(Dtype::kF64, {0, 6});
  LinearLayer::Saved saved;
  layer.forward(check.ctx(), x, saved, Out(dy));
  layer.backward(check.ctx(), dy, saved, check.grads, Out(x));
  EXPECT_EQ(check.grads.closed(), (std::vector<std::string>{"test.bias", "test.weight"}));
  for (const Parameter* parameter : check.store.parameters()) {
    EXPECT_EQ(dot(check.grads.gradient(*parameter), check.grads.gradient(*parameter)), 0) << parameter->name;
  }
}

}  // namespace
}  // namespace switchyard::test
