#include "src/model/decoder.h"

#include "tests/model/model_world.h"

namespace switchyard::test {
namespace {

const std::vector<std::vector<int32_t>> kSequences = {{1, 5, 2, 9, 10}, {7, 7, 3, 2, 1}, {4, 0, 8, 6, 6}};

ModelOptions without_noise() {
  ModelOptions options = small_options();
  options.dropout = options.hidden_dropout = options.moe.jitter = options.moe.expert_dropout = 0;
  return options;
}

ModelOptions without_drops() {
  ModelOptions options = without_noise();
  options.moe.capacity_factor = options.moe.eval_capacity_factor = 0;
  options.moe.group_tokens = 0;
  return options;
}

std::vector<std::string> names(Decoder& model) {
  std::vector<std::string> result;
  model.visit([&](Parameter& parameter) { result.push_back(parameter.name); });
  return result;
}

TEST(Decoder, ParametersHaveTheirGlobalNames) {
  ModelOptions options = small_options();
  options.bias = false;
  options.moe.experts = 2;
  World world(options);
  EXPECT_EQ(names(world.model), (std::vector<std::string>{
                                    "decoder.embedding.token.weight",
                                    "decoder.embedding.position.weight",
                                    "decoder.block.0.attention.norm.scale",
                                    "decoder.block.0.attention.norm.bias",
                                    "decoder.block.0.attention.qkv.weight",
                                    "decoder.block.0.attention.output.weight",
                                    "decoder.block.0.feed_forward.norm.scale",
                                    "decoder.block.0.feed_forward.norm.bias",
                                    "decoder.block.0.feed_forward.in.weight",
                                    "decoder.block.0.feed_forward.out.weight",
                                    "decoder.block.1.attention.norm.scale",
                                    "decoder.block.1.attention.norm.bias",
                                    "decoder.block.1.attention.qkv.weight",
                                    "decoder.block.1.attention.output.weight",
                                    "decoder.block.1.moe.norm.scale",
                                    "decoder.block.1.moe.norm.bias",
                                    "decoder.block.1.moe.router.weight",
                                    "decoder.block.1.moe.expert.0.in.weight",
                                    "decoder.block.1.moe.expert.0.out.weight",
                                    "decoder.block.1.moe.expert.1.in.weight",
                                    "decoder.block.1.moe.expert.1.out.weight",
                                    "decoder.norm.scale",
                                    "decoder.norm.bias",
                                }));
}

TEST(Decoder, EveryKthBlockIsSparse) {
  ModelOptions options = small_options();
  options.blocks = 7;
  options.moe.every = 3;
  World world(options);
  EXPECT_EQ(world.model.moe_layers(), 2);
  std::vector<int64_t> sparse;
  for (const std::string& name : names(world.model)) {
    if (name.ends_with("router.weight")) sparse.push_back(name[std::string("decoder.block.").size()] - '0');
  }
  EXPECT_EQ(sparse, (std::vector<int64_t>{2, 5}));
}

TEST(Decoder, OneExpertIsTheDenseModel) {
  ModelOptions options = small_options();
  options.moe.experts = 1;
  World world(options);
  EXPECT_EQ(world.model.moe_layers(), 0);
  for (const std::string& name : names(world.model)) EXPECT_EQ(name.find(".moe."), std::string::npos) << name;
  const Batch batch(world.bench, kSequences, 5, options);
  const MicroBatchLoss loss = world.step(batch, world.grads);
  EXPECT_GT(loss.cross_entropy, 0);
  EXPECT_EQ(loss.balance, 0);
  EXPECT_EQ(loss.router_z, 0);
}

// Buckets of gradients are laid out by this order, and every rank must send them alike.
TEST(Decoder, DenseParametersCloseInTheReverseOfVisitingOrder) {
  World world(small_options());
  std::vector<std::string> expected;
  for (const Parameter* parameter : world.store.parameters()) {
    if (parameter->kind == ParameterKind::kDense) expected.insert(expected.begin(), parameter->name);
  }
  world.step(Batch(world.bench, kSequences, 5, small_options()), world.grads);
  EXPECT_EQ(world.grads.closed(), expected);

  TestGradients empty(Dtype::kF64);
  world.step(Batch(world.bench, {}, 5, small_options()), empty);
  EXPECT_EQ(empty.closed(), expected) << "an empty lane closes in another order";
}

TEST(Decoder, AnEmptyLaneAddsNothing) {
  World world(small_options());
  const MicroBatchLoss loss = world.step(Batch(world.bench, {}, 5, small_options()), world.grads);
  EXPECT_EQ(loss.total(), 0);
  for (const Parameter* parameter : world.store.parameters()) {
    const Tensor gradient = world.grads.gradient(*parameter);
    EXPECT_EQ(dot(gradient, gradient), 0) << parameter->name;
  }
}

// Left to right, capacity included: a router that looked at later tokens would fail here.
TEST(Decoder, LaterTokensChangeNothingBefore) {
  const ModelOptions options = without_noise();
  World world(options);
  std::vector<std::vector<int32_t>> changed = kSequences;
  changed[2][3] = 1;
  const Tensor before = world.forward(Batch(world.bench, kSequences, 5, options));
  EXPECT_GT(world.dropped(), 0) << "capacity does not bind";
  const Tensor after = world.forward(Batch(world.bench, changed, 5, options));
  const int64_t first_changed = 2 * 5 + 3;
  EXPECT_TRUE(same_bits(before.slice_rows(0, first_changed), after.slice_rows(0, first_changed)));
  EXPECT_FALSE(same_bits(before.slice_rows(first_changed, 1), after.slice_rows(first_changed, 1)));
}

TEST(Decoder, AppendedPaddingChangesNeitherLossNorGradients) {
  const ModelOptions options = without_drops();
  World world(options);
  std::vector<std::vector<int32_t>> padded = kSequences;
  for (std::vector<int32_t>& sequence : padded) sequence.push_back(-1);
  TestGradients padded_grads(Dtype::kF64);
  const MicroBatchLoss plain_loss = world.step(Batch(world.bench, kSequences, 5, options), world.grads);
  const MicroBatchLoss padded_loss = world.step(Batch(world.bench, padded, 6, options), padded_grads);
  EXPECT_NEAR(padded_loss.cross_entropy, plain_loss.cross_entropy, 1e-14);
  EXPECT_NEAR(padded_loss.balance, plain_loss.balance, 1e-14);
  EXPECT_NEAR(padded_loss.router_z, plain_loss.router_z, 1e-14);
  for (const Parameter* parameter : world.store.parameters()) {
    const Tensor a = world.grads.gradient(*parameter), b = padded_grads.gradient(*parameter);
    for (int64_t i = 0; i < a.elements(); ++i) ASSERT_NEAR(get(a, i), get(b, i), 1e-14) << parameter->name << " element " << i;
  }
}

TEST(Decoder, TheContentOfPaddingChangesNothing) {
  const ModelOptions options = small_options();
  World world(options);
  std::vector<std::vector<int32_t>> sequences = kSequences;
  sequences[0][4] = sequences[1][3] = sequences[1][4] = -1;
  Batch batch(world.bench, sequences, 5, options);
  TestGradients other(Dtype::kF64);
  const double before = world.step(batch, world.grads).total();
  for (const int64_t padding : {4, 8, 9}) set(batch.batch.tokens, padding, 10);
  const double after = world.step(batch, other).total();
  EXPECT_EQ(before, after);
  for (const Parameter* parameter : world.store.parameters()) {
    EXPECT_TRUE(same_bits(world.grads.gradient(*parameter), other.gradient(*parameter))) << parameter->name;
  }
}

void expect_cached_equals_uncached(const ModelOptions& options, const Precision& precision) {
  World world(options, precision);
  world.ctx().training = false;
  const Tensor h = world.forward(Batch(world.bench, kSequences, 5, options));
  const Tensor expected = world.bench.copy(world.model.logits(world.ctx(), h));
  Decoder::Cache cache = world.model.make_cache(world.ctx(), 3, 5);
  int64_t first = 0;
  for (const int64_t n : {2, 1, 2}) {  // a prompt, a token, two tokens
    std::vector<int32_t> next;
    for (const std::vector<int32_t>& sequence : kSequences) next.insert(next.end(), sequence.begin() + first, sequence.begin() + first + n);
    const Arena::Mark saved_mark(world.bench.saved), scratch_mark(world.bench.scratch);
    const Tensor logits = world.model.logits(world.ctx(), world.model.forward_cached(world.ctx(), world.bench.integers(next), cache));
    for (int64_t row = 0; row < 3 * n; ++row) {
      for (int64_t c = 0; c < options.vocabulary; ++c) {
        const double uncached = get(expected, (row / n * 5 + first + row % n) * options.vocabulary + c);
        const double tolerance = precision.exact == Dtype::kF64 ? 1e-13 : 1e-5;
        EXPECT_NEAR(get(logits, row * options.vocabulary + c), uncached, tolerance * std::max(1.0, std::abs(uncached))) << "after " << first << " tokens";
      }
    }
    first += n;
  }
}

TEST(Decoder, CachedEqualsUncached) {
  for (const Precision& precision : {kPrecisionF64, kPrecisionF32}) expect_cached_equals_uncached(without_drops(), precision);
}

TEST(Decoder, CachedEqualsUncachedForOtherRoutings) {
  for (const RouterKind router : {RouterKind::kTopK, RouterKind::kNoTokenLeftBehind, RouterKind::kHash}) {
    ModelOptions options = without_drops();
    options.moe.router = router;
    options.moe.top_k = router == RouterKind::kHash ? 1 : 2;
    options.moe.vocabulary = options.vocabulary;
    expect_cached_equals_uncached(options, kPrecisionF64);
  }
}

TEST(Decoder, CachedEqualsUncachedWithNormsBehindSublayers) {
  ModelOptions options = without_drops();
  options.norm_place = NormPlace::kPost;
  expect_cached_equals_uncached(options, kPrecisionF64);
}

TEST(Decoder, CachedEqualsUncachedWithARelativeBias) {
  ModelOptions options = without_drops();
  options.position = Position::kRelativeBias;
  options.relative_buckets = 4;
  options.relative_distance = 4;
  expect_cached_equals_uncached(options, kPrecisionF64);
}

TEST(Decoder, EvaluationHasNoNoiseAndTrainingHas) {
  const ModelOptions options = small_options();
  World world(options);
  const Batch batch(world.bench, kSequences, 5, options);
  const Tensor step3 = world.forward(batch), again = world.forward(batch);
  EXPECT_TRUE(same_bits(step3, again)) << "the same step draws other numbers";
  world.ctx().key.step = 4;
  EXPECT_FALSE(same_bits(step3, world.forward(batch))) << "the next step draws the same numbers";
  world.ctx().training = false;
  const Tensor evaluated = world.forward(batch);
  world.ctx().key.step = 5;
  EXPECT_TRUE(same_bits(evaluated, world.forward(batch)));
}

TEST(Decoder, EvaluationLossesAreTheTrainingLossWithoutZ) {
  ModelOptions options = without_noise();
  options.z_loss = 0;
  World world(options);
  const Batch batch(world.bench, kSequences, 5, options);
  const Tensor loss = world.bench.tensor(Dtype::kF64, {15}), correct = world.bench.tensor(Dtype::kI32, {15});
  const Tensor h = world.forward(batch);
  world.model.evaluate(world.ctx(), h, batch.batch, Out(loss), Out(correct));
  double total = 0;
  for (int64_t t = 0; t < 15; ++t) total += get(loss, t);
  EXPECT_NEAR(world.step(batch, world.grads).cross_entropy, total / static_cast<double>(batch.counts.targets), 1e-13);
}

TEST(Decoder, MoeStatisticsAreReachable) {
  ModelOptions options = small_options();
  options.blocks = 4;
  World world(options);
  const Batch batch(world.bench, kSequences, 5, options);
  const MicroBatchLoss loss = world.step(batch, world.grads);
  std::vector<int> layers;
  double balance = 0;
  world.model.for_each_moe(world.saved, [&](int layer, const MoeLayer::Saved& moe) {
    layers.push_back(layer);
    balance += moe.statistics().sums[0];
    EXPECT_EQ(moe.statistics().tokens, 15);
  });
  EXPECT_EQ(layers, (std::vector<int>{0, 1}));
  EXPECT_EQ(balance, loss.balance);
}

TEST(Decoder, TheSecondStepTakesNoNewMemory) {
  const ModelOptions options = small_options();
  World world(options);
  const Batch batch(world.bench, kSequences, 5, options);
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
