#include "src/layers/loss.h"

#include <algorithm>

#include "src/layers/embedding.h"
#include "tests/layers/layer_check.h"

namespace switchyard::test {
namespace {

constexpr int64_t kVocabulary = 7, kWidth = 3;

// The tied table, as the embedding has it; here its only use is the head's.
struct HeadCheck {
  explicit HeadCheck(Precision precision = kPrecisionF64) : check(precision) {
    embedding = EmbeddingLayer::make("test", {.vocabulary = kVocabulary, .positions = 2, .width = kWidth});
    embedding.token.uses = 1;
    check.store.add(embedding.token);
    check.store.fill(1);
  }
  LayerCheck check;
  EmbeddingLayer embedding;
};

std::vector<int32_t> some_targets(int64_t rows) {
  std::vector<int32_t> targets;
  for (int64_t t = 0; t < rows; ++t) targets.push_back(t % 5 == 3 ? -1 : static_cast<int32_t>(t * t % kVocabulary));
  return targets;
}

// Row by row, written out: the loss of rows with a target.
std::vector<double> brute_force(const Tensor& h, const Tensor& table, const std::vector<int32_t>& targets, double head_scale, double z) {
  std::vector<double> losses;
  for (int64_t t = 0; t < h.rows(); ++t) {
    const int32_t target = targets[static_cast<size_t>(t)];
    double sum = 0, target_logit = 0;
    for (int64_t n = 0; n < kVocabulary; ++n) {
      double logit = 0;
      for (int64_t c = 0; c < kWidth; ++c) logit += head_scale * h.row<double>(t)[c] * table.row<double>(n)[c];
      sum += std::exp(logit);
      if (n == target) target_logit = logit;
    }
    const double log_z = std::log(sum);
    losses.push_back(target < 0 ? 0 : log_z - target_logit + z * log_z * log_z);
  }
  return losses;
}

void check_gradients(int64_t rows, const LossLayer& layer) {
  HeadCheck head;
  LayerCheck& check = head.check;
  const Tensor h = check.bench.normal({rows, kWidth}, 2), targets = check.bench.integers(some_targets(rows));
  const double scale = 1.0 / static_cast<double>(rows);
  const auto loss = [&](TestGradients& grads, Tensor* dh) {
    const Arena::Mark saved_mark(check.bench.saved), scratch_mark(check.bench.scratch);
    LossLayer::Saved saved;
    const Tensor gradient = layer.backward(check.ctx(), h, targets, head.embedding.token, scale, saved, grads);
    if (dh != nullptr) *dh = check.bench.copy(gradient);
    return get(saved.loss, 0);
  };
  Tensor dh;
  loss(check.grads, &dh);
  GradientCheck slopes([&] {
    TestGradients unused(Dtype::kF64);
    return loss(unused, nullptr);
  });
  slopes({"h", h, dh});
  slopes(check.store, check.grads);
}

TEST(Loss, GradientsAreSlopes) { check_gradients(6, {.head_scale = 1, .z = 0}); }
TEST(Loss, GradientsAreSlopesWithHeadScaleAndZ) { check_gradients(6, {.head_scale = 0.6, .z = 0.05}); }
TEST(Loss, GradientsAreSlopesOverSeveralChunks) { check_gradients(LossLayer::kRows + 3, {.head_scale = 0.6, .z = 0.05}); }

TEST(Loss, IsTheWeightedSumOfRowsWithATarget) {
  HeadCheck head;
  const LossLayer layer{.head_scale = 0.6, .z = 0.05};
  const int64_t rows = 2 * LossLayer::kRows + 7;
  const std::vector<int32_t> targets = some_targets(rows);
  const Tensor h = head.check.bench.normal({rows, kWidth}, 2);
  LossLayer::Saved saved;
  layer.backward(head.check.ctx(), h, head.check.bench.integers(targets), head.embedding.token, 0.25, saved, head.check.grads);
  double expected = 0;
  for (const double row : brute_force(h, head.embedding.token.plain, targets, 0.6, 0.05)) expected += 0.25 * row;
  EXPECT_NEAR(get(saved.loss, 0), expected, 1e-12 * expected);
}

TEST(Loss, EvaluationGivesEachRowWithoutZ) {
  HeadCheck head;
  Bench& bench = head.check.bench;
  const LossLayer layer{.head_scale = 0.6, .z = 0.05};
  const int64_t rows = LossLayer::kRows + 7;
  const std::vector<int32_t> targets = some_targets(rows);
  const Tensor h = bench.normal({rows, kWidth}, 2);
  const Tensor loss = bench.tensor(Dtype::kF64, {rows}), correct = bench.tensor(Dtype::kI32, {rows});
  layer.evaluate(bench.ctx, h, bench.integers(targets), head.embedding.token, Out(loss), Out(correct));
  const std::vector<double> expected = brute_force(h, head.embedding.token.plain, targets, 0.6, 0);
  const Tensor logits = layer.logits(bench.ctx, h.slice_rows(0, 20), head.embedding.token);
  for (int64_t t = 0; t < rows; ++t) EXPECT_NEAR(get(loss, t), expected[static_cast<size_t>(t)], 1e-12) << "row " << t;
  for (int64_t t = 0; t < 20; ++t) {
    const double* row = logits.row<double>(t);
    const auto best = static_cast<int32_t>(std::max_element(row, row + kVocabulary) - row);
    EXPECT_EQ(get(correct, t), best == targets[static_cast<size_t>(t)] ? 1 : 0) << "row " << t;
  }
}

TEST(Loss, LogitsAreTheScaledProductWithTheTable) {
  HeadCheck head;
  const LossLayer layer{.head_scale = 0.6};
  const Tensor h = head.check.bench.normal({2, kWidth}, 2);
  const Tensor logits = layer.logits(head.check.ctx(), h, head.embedding.token);
  for (int64_t t = 0; t < 2; ++t) {
    for (int64_t n = 0; n < kVocabulary; ++n) {
      double expected = 0;
      for (int64_t c = 0; c < kWidth; ++c) expected += 0.6 * h.row<double>(t)[c] * head.embedding.token.plain.row<double>(n)[c];
      EXPECT_NEAR(logits.row<double>(t)[n], expected, 1e-14);
    }
  }
}

TEST(Loss, AnEmptyMicroBatchAddsNothingAndClosesTheTable) {
  HeadCheck head;
  const LossLayer layer{.head_scale = 0.6, .z = 0.05};
  LossLayer::Saved saved;
  const Tensor h = head.check.bench.tensor(Dtype::kF64, {0, kWidth});
  layer.backward(head.check.ctx(), h, head.check.bench.integers({}), head.embedding.token, 0.25, saved, head.check.grads);
  EXPECT_EQ(get(saved.loss, 0), 0);
  const Tensor gradient = head.check.grads.gradient(head.embedding.token);
  EXPECT_EQ(dot(gradient, gradient), 0);
  EXPECT_EQ(head.check.grads.closed(), (std::vector<std::string>{"test.token.weight"}));
}

}  // namespace
}  // namespace switchyard::test
