#include "src/layers/embedding.h"

#include "tests/layers/layer_check.h"

namespace switchyard::test {
namespace {

void check_gradients(double rate) {
  LayerCheck check;
  EmbeddingLayer layer = EmbeddingLayer::make("test", {.vocabulary = 9, .positions = 4, .width = 5, .dropout = rate});
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor tokens = check.bench.integers({3, 8, 3, 0, 1, 3});  // two sequences of three; the table has four positions
  EmbeddingLayer::Saved saved;
  check.run(
      {6, 5}, [&] { return layer.forward(check.ctx(), tokens, 3, saved); },
      [&](Tensor dy) {
        layer.backward(check.ctx(), dy, saved, check.grads);
        return Tensor{};
      },
      [](Tensor) { return std::vector<Checked>{}; });
}

TEST(Embedding, GradientsAreSlopes) { check_gradients(0); }
TEST(Embedding, GradientsAreSlopesUnderDropout) { check_gradients(0.3); }

TEST(Embedding, RowsAreTokenPlusPosition) {
  LayerCheck check;
  EmbeddingLayer layer = EmbeddingLayer::make("test", {.vocabulary = 9, .positions = 4, .width = 5, .dropout = 0});
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const std::vector<int32_t> tokens = {3, 8, 0, 1};
  EmbeddingLayer::Saved saved;
  const Tensor x = layer.forward(check.ctx(), check.bench.integers(tokens), 2, saved, 1);
  for (int64_t t = 0; t < 4; ++t) {
    for (int64_t c = 0; c < 5; ++c) {
      const double expected = layer.token.plain.row<double>(tokens[static_cast<size_t>(t)])[c] + layer.position.plain.row<double>(1 + t % 2)[c];
      EXPECT_EQ(x.row<double>(t)[c], expected) << "token " << t << ", column " << c;
    }
  }
}

// <A x, y> = <x, A' y> with x both tables.
TEST(Embedding, BackwardIsTheAdjointOfForward) {
  LayerCheck check;
  EmbeddingLayer layer = EmbeddingLayer::make("test", {.vocabulary = 9, .positions = 3, .width = 5, .dropout = 0.4});
  layer.visit(check.store.visitor());
  check.store.fill(1);
  EmbeddingLayer::Saved saved;
  const Tensor x = layer.forward(check.ctx(), check.bench.integers({3, 8, 3, 0, 1, 3}), 3, saved);
  const Tensor dx = check.bench.normal({6, 5}, 4);
  layer.backward(check.ctx(), dx, saved, check.grads);
  const double there = dot(x, dx);
  const double back =
      dot(check.store.master(layer.token), check.grads.gradient(layer.token)) + dot(check.store.master(layer.position), check.grads.gradient(layer.position));
  EXPECT_NEAR(back, there, 1e-12 * std::abs(there));
}

TEST(Embedding, TokensOfAnEmptyLaneGiveZeroGradients) {
  LayerCheck check;
  EmbeddingLayer layer = EmbeddingLayer::make("test", {.vocabulary = 9, .positions = 3, .width = 5, .dropout = 0.4});
  layer.visit(check.store.visitor());
  check.store.fill(1);
  EmbeddingLayer::Saved saved;
  const Tensor x = layer.forward(check.ctx(), check.bench.integers({}), 3, saved);
  layer.backward(check.ctx(), x, saved, check.grads);
  for (const Parameter* parameter : check.store.parameters()) {
    EXPECT_EQ(dot(check.grads.gradient(*parameter), check.grads.gradient(*parameter)), 0) << parameter->name;
  }
}

TEST(Embedding, WithoutPositionsRowsAreTokens) {
  LayerCheck check;
  EmbeddingLayer layer = EmbeddingLayer::make("test", {.vocabulary = 9, .width = 5, .tied_head = false});
  layer.visit(check.store.visitor());
  check.store.fill(1);
  ASSERT_EQ(check.store.parameters().size(), 1u) << "there is no position table";
  EXPECT_EQ(layer.token.uses, 1);
  EmbeddingLayer::Saved saved;
  const Tensor x = layer.forward(check.ctx(), check.bench.integers({3, 8, 3, 1}), 2, saved, 100);
  for (int64_t c = 0; c < 5; ++c) EXPECT_EQ(x.row<double>(1)[c], layer.token.plain.row<double>(8)[c]);
  layer.backward(check.ctx(), x, saved, check.grads);
  const Tensor gradient = check.grads.gradient(layer.token);
  for (int64_t c = 0; c < 5; ++c) EXPECT_EQ(get(gradient, 3 * 5 + c), x.row<double>(0)[c] + x.row<double>(2)[c]);
}

TEST(Embedding, RefusesAPositionOutsideItsTable) {
  LayerCheck check;
  EmbeddingLayer layer = EmbeddingLayer::make("test", {.vocabulary = 9, .positions = 3, .width = 5, .dropout = 0});
  layer.visit(check.store.visitor());
  EmbeddingLayer::Saved saved;
  EXPECT_THROW(layer.forward(check.ctx(), check.bench.integers({1, 2}), 2, saved, 2), InternalError);
}

}  // namespace
}  // namespace switchyard::test
