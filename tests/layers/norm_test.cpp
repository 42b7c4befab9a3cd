#include "src/layers/norm.h"

#include "tests/layers/layer_check.h"

namespace switchyard::test {
namespace {

void check_gradients(NormKind kind) {
  LayerCheck check;
  NormLayer layer = NormLayer::make("test", 6, {.kind = kind, .epsilon = 1e-5});
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.normal({4, 6}, 2);
  NormLayer::Saved saved;
  check.run(
      {4, 6}, [&] { return layer.forward(check.ctx(), x, saved); },
      [&](Tensor dy) {
        const Tensor dx = check.ctx().temporary(Dtype::kF64, x.shape());
        layer.backward(check.ctx(), dy, saved, check.grads, Out(dx));
        return dx;
      },
      [&](Tensor dx) {
        return std::vector<Checked>{{"x", x, dx}};
      });
}

TEST(NormLayer, LayerNormGradientsAreSlopes) { check_gradients(NormKind::kLayerNorm); }
TEST(NormLayer, RmsNormGradientsAreSlopes) { check_gradients(NormKind::kRmsNorm); }

TEST(NormLayer, OnlyLayerNormHasABias) {
  for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    NormLayer layer = NormLayer::make("test", 6, {.kind = kind});
    std::vector<std::string> names;
    layer.visit([&](Parameter& parameter) {
      names.push_back(parameter.name);
      EXPECT_FALSE(parameter.decay) << parameter.name;
    });
    if (kind == NormKind::kLayerNorm) {
      EXPECT_EQ(names, (std::vector<std::string>{"test.scale", "test.bias"}));
    } else {
      EXPECT_EQ(names, (std::vector<std::string>{"test.scale"}));
    }
  }
}

// At a pre-norm the gradient joins the residual's.
TEST(NormLayer, BackwardCanAddToTheResidualsGradient) {
  LayerCheck check;
  NormLayer layer = NormLayer::make("test", 6, {});
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.normal({4, 6}, 2), dy = check.bench.normal({4, 6}, 3), residual = check.bench.normal({4, 6}, 4);
  const Tensor alone = check.bench.tensor(Dtype::kF64, x.shape()), joined = check.bench.copy(residual);
  NormLayer::Saved saved;
  layer.forward(check.ctx(), x, saved);
  layer.backward(check.ctx(), dy, saved, check.grads, Out(alone));
  TestGradients again(Dtype::kF64);
  layer.backward(check.ctx(), dy, saved, again, Accumulate(joined));
  for (int64_t i = 0; i < x.elements(); ++i) EXPECT_NEAR(get(joined, i), get(alone, i) + get(residual, i), 1e-14);
}

}  // namespace
}  // namespace switchyard::test
