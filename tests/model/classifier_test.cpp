#include "src/model/classifier.h"

#include "tests/model/model_world.h"

namespace switchyard::test {
namespace {

const std::vector<std::vector<int32_t>> kTexts = {{1, 5, 2, 9, 10}, {7, 7, 3, -1, -1}, {4, 0, 8, 6, -1}};
const std::vector<int32_t> kLabels = {2, 0, 1};

ModelOptions without_noise() {
  ModelOptions options = small_classifier();
  options.dropout = options.hidden_dropout = options.moe.jitter = options.moe.expert_dropout = options.classifier.dropout = 0;
  options.moe.capacity_factor = options.moe.eval_capacity_factor = 0;
  options.moe.group_tokens = 0;
  return options;
}

std::vector<double> logits(ClassifierWorld& world, const LabelledBatch& batch) {
  world.ctx().training = false;
  const Arena::Mark saved(world.bench.saved), scratch(world.bench.scratch);
  const Tensor h = world.model.forward(world.ctx(), batch.batch, batch.counts, world.saved);
  const Tensor result = world.model.logits(world.ctx(), h, batch.batch);
  return {result.get<double>(), result.get<double>() + result.elements()};
}

TEST(Classifier, ParametersHaveTheirGlobalNames) {
  ModelOptions options = small_classifier();
  options.bias = false;
  options.moe.experts = 2;
  ClassifierWorld world(options);
  std::vector<std::string> names;
  for (const Parameter* parameter : world.store.parameters()) names.push_back(parameter->name);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "classifier.embedding.token.weight",
                       "classifier.embedding.position.weight",
                       "classifier.block.0.attention.qkv.weight",
                       "classifier.block.0.attention.output.weight",
                       "classifier.block.0.attention.norm.scale",
                       "classifier.block.0.attention.norm.bias",
                       "classifier.block.0.moe.router.weight",
                       "classifier.block.0.moe.expert.0.in.weight",
                       "classifier.block.0.moe.expert.0.out.weight",
                       "classifier.block.0.moe.expert.1.in.weight",
                       "classifier.block.0.moe.expert.1.out.weight",
                       "classifier.block.0.moe.norm.scale",
                       "classifier.block.0.moe.norm.bias",
                       "classifier.head.hidden.weight",
                       "classifier.head.hidden.bias",
                       "classifier.head.classes.weight",
                       "classifier.head.classes.bias",
                   }));
}

TEST(Classifier, DenseParametersCloseInTheReverseOfVisitingOrder) {
  for (const NormPlace place : {NormPlace::kPre, NormPlace::kPost}) {
    ModelOptions options = small_classifier();
    options.norm_place = place;
    options.position = place == NormPlace::kPre ? Position::kRelativeBias : Position::kLearned;
    ClassifierWorld world(options);
    std::vector<std::string> expected;
    for (const Parameter* parameter : world.store.parameters()) {
      if (parameter->kind == ParameterKind::kDense) expected.insert(expected.begin(), parameter->name);
    }
    world.step(LabelledBatch(world.bench, kTexts, kLabels, 5, options), world.grads);
    EXPECT_EQ(world.grads.closed(), expected);

    TestGradients empty(Dtype::kF64);
    world.step(LabelledBatch(world.bench, {}, {}, 5, options), empty);
    EXPECT_EQ(empty.closed(), expected) << "an empty lane closes in another order";
  }
}

TEST(Classifier, AnEmptyLaneAddsNothing) {
  ClassifierWorld world(small_classifier());
  EXPECT_EQ(world.step(LabelledBatch(world.bench, {}, {}, 5, small_classifier()), world.grads).total(), 0);
  for (const Parameter* parameter : world.store.parameters()) {
    const Tensor gradient = world.grads.gradient(*parameter);
    EXPECT_EQ(dot(gradient, gradient), 0) << parameter->name;
  }
}

TEST(Classifier, TheFirstTokenSeesTheLast) {
  const ModelOptions options = without_noise();
  ClassifierWorld world(options);
  std::vector<std::vector<int32_t>> changed = kTexts;
  changed[0][4] = 3;
  const Tensor before = world.forward(LabelledBatch(world.bench, kTexts, kLabels, 5, options));
  const Tensor after = world.forward(LabelledBatch(world.bench, changed, kLabels, 5, options));
  EXPECT_FALSE(same_bits(before.slice_rows(0, 1), after.slice_rows(0, 1)));
  EXPECT_TRUE(same_bits(before.slice_rows(5, 10), after.slice_rows(5, 10))) << "a text depends on another one";
}

TEST(Classifier, AppendedPaddingChangesNeitherLossNorGradients) {
  const ModelOptions options = without_noise();
  ClassifierWorld world(options);
  std::vector<std::vector<int32_t>> padded = kTexts;
  for (std::vector<int32_t>& text : padded) text.push_back(-1);
  TestGradients padded_grads(Dtype::kF64);
  const double plain_loss = world.step(LabelledBatch(world.bench, kTexts, kLabels, 5, options), world.grads).total();
  const double padded_loss = world.step(LabelledBatch(world.bench, padded, kLabels, 6, options), padded_grads).total();
  EXPECT_NEAR(padded_loss, plain_loss, 1e-14);
  for (const Parameter* parameter : world.store.parameters()) {
    EXPECT_LE(distance(padded_grads.gradient(*parameter), world.grads.gradient(*parameter)), 1e-12) << parameter->name;
  }
}

TEST(Classifier, PaddingCountsWhereItIsAskedFor) {
  for (const bool see : {false, true}) {
    for (const bool pool : {false, true}) {
      ModelOptions options = without_noise();
      options.classifier.see_padding = see;
      options.classifier.pool_padding = pool;
      ClassifierWorld world(options);
      LabelledBatch batch(world.bench, kTexts, kLabels, 5, options);
      const std::vector<double> before = logits(world, batch);
      for (const int64_t padding : {8, 9, 14}) set(batch.batch.tokens, padding, 10);
      const std::vector<double> after = logits(world, batch);
      for (size_t i = 0; i < 3; ++i) EXPECT_EQ(before[i], after[i]) << "the first text has no padding";
      EXPECT_EQ(before == after, !see && !pool) << "see_padding " << see << ", pool_padding " << pool;
    }
  }
}

TEST(Classifier, WhoSeesPaddingKnowsNoMask) {
  ModelOptions options = without_noise();
  options.classifier.see_padding = options.classifier.pool_padding = true;
  ClassifierWorld world(options);
  LabelledBatch batch(world.bench, kTexts, kLabels, 5, options);
  const std::vector<double> masked = logits(world, batch);
  batch.batch.mask = {};
  EXPECT_EQ(masked, logits(world, batch));
}

// Not one row of it is seen: the mean is 0, and the answer is the head's to that.
TEST(Classifier, ATextOfPaddingOnlyHasAnAnswer) {
  const ModelOptions options = without_noise();
  ClassifierWorld world(options);
  const std::vector<std::vector<int32_t>> texts = {{-1, -1, -1, -1, -1}, {1, 5, 2, 9, 10}};
  const LabelledBatch batch(world.bench, texts, {1, 2}, 5, options);
  const MicroBatchLoss loss = world.step(batch, world.grads);
  EXPECT_TRUE(std::isfinite(loss.total()));
  for (const Parameter* parameter : world.store.parameters()) {
    const Tensor gradient = world.grads.gradient(*parameter);
    EXPECT_TRUE(std::isfinite(dot(gradient, gradient))) << parameter->name;
  }
  const std::vector<double> first = logits(world, batch);
  set(batch.batch.tokens, 2, 7);
  EXPECT_EQ(first, logits(world, batch));

  const LabelledBatch alone(world.bench, {texts[0]}, {1}, 5, options);
  EXPECT_TRUE(std::isfinite(world.loss(alone))) << "a micro-batch without a token";
}

TEST(Classifier, AnAbsentExampleAddsNothing) {
  const ModelOptions options = without_noise();
  ClassifierWorld world(options);
  std::vector<std::vector<int32_t>> more = kTexts;
  more.push_back({-1, -1, -1, -1, -1});
  TestGradients more_grads(Dtype::kF64);
  const double plain = world.step(LabelledBatch(world.bench, kTexts, kLabels, 5, options), world.grads).total();
  const double with = world.step(LabelledBatch(world.bench, more, {2, 0, 1, -1}, 5, options), more_grads).total();
  EXPECT_NEAR(with, plain, 1e-14);
  for (const Parameter* parameter : world.store.parameters()) {
    EXPECT_LE(distance(more_grads.gradient(*parameter), world.grads.gradient(*parameter)), 1e-12) << parameter->name;
  }
}

TEST(Classifier, EvaluationLossesAreTheTrainingLossWithoutZ) {
  ModelOptions options = without_noise();
  options.z_loss = 0;
  ClassifierWorld world(options);
  const LabelledBatch batch(world.bench, kTexts, kLabels, 5, options);
  const Tensor loss = world.bench.tensor(Dtype::kF64, {3}), correct = world.bench.tensor(Dtype::kI32, {3});
  const Tensor h = world.forward(batch);
  world.model.evaluate(world.ctx(), h, batch.batch, Out(loss), Out(correct));
  EXPECT_NEAR(world.step(batch, world.grads).cross_entropy, (get(loss, 0) + get(loss, 1) + get(loss, 2)) / 3, 1e-13);

  const std::vector<double> rows = logits(world, batch);
  for (int64_t b = 0; b < 3; ++b) {
    const auto row = rows.begin() + 3 * b;
    const bool hit = std::max_element(row, row + 3) - row == kLabels[static_cast<size_t>(b)];
    EXPECT_EQ(get(correct, b), hit ? 1 : 0) << "text " << b;
  }
}

TEST(Classifier, TheHeadsDropoutIsDrawnAnewInEveryStepAndNotInEvaluation) {
  ModelOptions options = without_noise();
  options.classifier.dropout = 0.5;
  ClassifierWorld world(options);
  const LabelledBatch batch(world.bench, kTexts, kLabels, 5, options);
  const double step3 = world.loss(batch);
  EXPECT_EQ(step3, world.loss(batch));
  world.ctx().key.step = 4;
  EXPECT_NE(step3, world.loss(batch));
  world.ctx().training = false;
  const double evaluated = world.loss(batch);
  world.ctx().key.step = 5;
  EXPECT_EQ(evaluated, world.loss(batch));
}

TEST(Classifier, TheSecondStepTakesNoNewMemory) {
  const ModelOptions options = small_classifier();
  ClassifierWorld world(options);
  const LabelledBatch batch(world.bench, kTexts, kLabels, 5, options);
  world.step(batch, world.grads);
  const int64_t saved = world.bench.saved.reserved(), scratch = world.bench.scratch.reserved();
  world.grads.begin();
  world.step(batch, world.grads);
  EXPECT_EQ(world.bench.saved.reserved(), saved);
  EXPECT_EQ(world.bench.scratch.reserved(), scratch);
  EXPECT_EQ(world.bench.scratch.used(), 0);
}

}  // namespace
}  // namespace switchyard::test
