#include "src/layers/dropout.h"

#include "tests/layers/layer_check.h"

namespace switchyard::test {
namespace {

TEST(DropoutLayer, BackwardIsTheAdjointOfForward) {
  LayerCheck check;
  const DropoutLayer layer{.rate = 0.4, .purpose = Purpose::kAttentionDropout, .layer = 2};
  const Tensor x = check.bench.normal({5, 7}, 1), zero = check.bench.tensor(Dtype::kF64, {5, 7}), dy = check.bench.normal({5, 7}, 2);
  const Tensor y = layer.add(check.ctx(), zero, x);
  const Tensor dx = layer.backward(check.ctx(), dy);
  EXPECT_NEAR(dot(x, dx), dot(y, dy), 1e-12);
  EXPECT_NE(dot(x, dy), dot(y, dy)) << "nothing was dropped";
}

TEST(DropoutLayer, InPlaceAndInTheResidualDropTheSame) {
  LayerCheck check;
  const DropoutLayer layer{.rate = 0.4, .purpose = Purpose::kAttentionDropout, .layer = 2};
  const Tensor x = check.bench.normal({5, 7}, 1), zero = check.bench.tensor(Dtype::kF64, {5, 7});
  const Tensor added = layer.add(check.ctx(), zero, x);
  layer.forward(check.ctx(), x);
  for (int64_t i = 0; i < x.elements(); ++i) EXPECT_EQ(get(x, i), get(added, i));
}

TEST(DropoutLayer, KeepsEverythingOutsideTraining) {
  LayerCheck check;
  check.ctx().training = false;
  const DropoutLayer layer{.rate = 0.4, .purpose = Purpose::kAttentionDropout, .layer = 2};
  const Tensor x = check.bench.normal({5, 7}, 1);
  const Tensor before = check.bench.copy(x);
  layer.forward(check.ctx(), x);
  EXPECT_TRUE(same_bits(x, before));
  EXPECT_EQ(layer.backward(check.ctx(), x).data(), x.data());
}

// The mask belongs to the token, not to the row that it happens to have.
TEST(DropoutLayer, MasksFollowTheGlobalTokenAndTheLayer) {
  LayerCheck check;
  const auto masked = [&](uint64_t first_token, int layer, int64_t rows) {
    check.ctx().key.first_token = first_token;
    const Tensor x = check.bench.tensor(Dtype::kF64, {rows, 64});
    for (int64_t i = 0; i < x.elements(); ++i) set(x, i, 1);
    DropoutLayer{.rate = 0.5, .purpose = Purpose::kAttentionDropout, .layer = layer}.forward(check.ctx(), x);
    return x;
  };
  const Tensor all = masked(100, 1, 4), tail = masked(102, 1, 2), other_layer = masked(100, 2, 4);
  EXPECT_TRUE(same_bits(all.slice_rows(2, 2), tail));
  EXPECT_FALSE(same_bits(all, other_layer));
}

}  // namespace
}  // namespace switchyard::test
