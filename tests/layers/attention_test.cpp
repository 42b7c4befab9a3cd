#include "src/layers/attention.h"

#include "tests/layers/layer_check.h"

namespace switchyard::test {
namespace {

constexpr int64_t kBatch = 2, kLength = 4, kRows = kBatch * kLength, kWidth = 6, kHeads = 2, kHeadWidth = 5;

AttentionLayer make(bool causal, bool bias, bool scale_scores) {
  return AttentionLayer::make("test",
                              {.width = kWidth, .heads = kHeads, .head_width = kHeadWidth, .causal = causal, .bias = bias, .scale_scores = scale_scores}, 0);
}

AttentionPlan plain_plan() { return {.batch = kBatch, .length = kLength, .mask = {}, .bias = {}}; }

void check_gradients(AttentionLayer layer, bool padding, bool score_bias) {
  LayerCheck check;
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.normal({kRows, kWidth}, 2);
  AttentionPlan plan = plain_plan();
  Target dbias;
  if (padding) plan.mask = check.bench.integers({1, 1, 1, 0, 0, 1, 1, 1});
  if (score_bias) {
    plan.bias = check.bench.normal({kHeads, kLength, kLength}, 3);
    dbias = Out(check.bench.tensor(Dtype::kF64, {kHeads, kLength, kLength}));
  }
  AttentionLayer::Saved saved;
  check.run(
      {kRows, kWidth}, [&] { return layer.forward(check.ctx(), x, plan, saved); },
      [&](Tensor dy) { return layer.backward(check.ctx(), dy, saved, check.grads, dbias); },
      [&](Tensor dx) {
        std::vector<Checked> inputs = {{"x", x, dx}};
        if (score_bias) inputs.push_back({"score bias", plan.bias, dbias.tensor});
        return inputs;
      });
}

TEST(Attention, GradientsAreSlopesWhenCausal) { check_gradients(make(true, false, false), false, false); }
TEST(Attention, GradientsAreSlopesWhenFull) { check_gradients(make(false, false, true), false, false); }
TEST(Attention, GradientsAreSlopesWithPadding) { check_gradients(make(true, true, true), true, false); }
TEST(Attention, GradientsAreSlopesWithAScoreBias) { check_gradients(make(false, true, false), true, true); }

// y of one forward over all rows of x, copied.
Tensor outputs(LayerCheck& check, const AttentionLayer& layer, const Tensor& x, const AttentionPlan& plan) {
  const Arena::Mark saved_mark(check.bench.saved), scratch_mark(check.bench.scratch);
  AttentionLayer::Saved saved;
  return check.bench.copy(layer.forward(check.ctx(), x, plan, saved));
}

TEST(Attention, CausalOutputsDoNotSeeTheFuture) {
  LayerCheck check;
  AttentionLayer layer = make(true, false, false);
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.normal({kRows, kWidth}, 2);
  const Tensor before = outputs(check, layer, x, plain_plan());
  for (int64_t c = 0; c < kWidth; ++c) x.row<double>(2)[c] += 1;  // sequence 0, position 2
  const Tensor after = outputs(check, layer, x, plain_plan());
  for (int64_t t = 0; t < kRows; ++t) {
    const bool may_change = t == 2 || t == 3;
    EXPECT_EQ(same_bits(before.slice_rows(t, 1), after.slice_rows(t, 1)), !may_change) << "row " << t;
  }
}

TEST(Attention, PaddingChangesNothingForRealTokens) {
  LayerCheck check;
  AttentionLayer layer = make(false, false, true);
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.normal({kRows, kWidth}, 2);
  AttentionPlan plan = plain_plan();
  plan.mask = check.bench.integers({1, 1, 1, 0, 0, 1, 1, 1});
  const Tensor before = outputs(check, layer, x, plan);
  for (const int64_t padding : {3, 4}) {
    for (int64_t c = 0; c < kWidth; ++c) x.row<double>(padding)[c] = 50;
  }
  const Tensor after = outputs(check, layer, x, plan);
  for (const int64_t real : {0, 1, 2, 5, 6, 7}) EXPECT_TRUE(same_bits(before.slice_rows(real, 1), after.slice_rows(real, 1))) << "row " << real;
}

void check_cache(const Precision& precision, bool score_bias) {
  LayerCheck check(precision);
  AttentionLayer layer = make(true, true, true);
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.normal({kRows, kWidth}, 2);
  AttentionPlan plan = plain_plan();
  const Tensor all_bias = check.bench.tensor(precision.exact, {kHeads, kLength, kLength});
  fill_normal(all_bias, 3);
  if (score_bias) plan.bias = all_bias;
  const Tensor expected = outputs(check, layer, x, plan);
  KeyValueCache cache{.qkv = check.bench.tensor(precision.activation, {kBatch * 5, layer.cache_columns()}), .batch = kBatch, .capacity = 5};
  int64_t first = 0;
  for (const int64_t n : {2, 1, 1}) {  // two tokens at once, then one by one
    const Tensor next = check.bench.tensor(precision.activation, {kBatch * n, kWidth}), bias = check.bench.tensor(precision.exact, {kHeads, n, first + n});
    for (int64_t b = 0; b < kBatch; ++b) {
      for (int64_t i = 0; i < n * kWidth; ++i) set(next, b * n * kWidth + i, get(x, (b * kLength + first) * kWidth + i));
    }
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < first + n; ++j) set(bias, (h * n + i) * (first + n) + j, get(all_bias, (h * kLength + first + i) * kLength + j));
      }
    }
    const Tensor y = layer.forward_cached(check.ctx(), next, cache, score_bias ? bias : Tensor());
    for (int64_t b = 0; b < kBatch; ++b) {
      for (int64_t i = 0; i < n * kWidth; ++i) {
        const double uncached = get(expected, (b * kLength + first) * kWidth + i);
        EXPECT_NEAR(get(y, b * n * kWidth + i), uncached, precision.activation == Dtype::kF64 ? 1e-14 : 1e-6) << "token " << first;
      }
    }
    first += n;
  }
  EXPECT_EQ(cache.length, kLength);
}

TEST(Attention, CachedEqualsUncached) {
  check_cache(kPrecisionF64, false);
  check_cache(kPrecisionF32, false);
}
TEST(Attention, CachedEqualsUncachedWithAScoreBias) {
  check_cache(kPrecisionF64, true);
  check_cache(kPrecisionF32, true);
}

TEST(Attention, AFullCacheIsRefused) {
  LayerCheck check;
  AttentionLayer layer = make(true, false, false);
  layer.visit(check.store.visitor());
  check.store.fill(1);
  KeyValueCache cache{.qkv = check.bench.tensor(Dtype::kF64, {kBatch * 2, layer.cache_columns()}), .batch = kBatch, .capacity = 2};
  EXPECT_THROW(layer.forward_cached(check.ctx(), check.bench.normal({kBatch * 3, kWidth}, 2), cache), InternalError);
}

TEST(Attention, NoRowsGiveZeroGradients) {
  LayerCheck check;
  AttentionLayer layer = make(true, true, false);
  layer.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.tensor(Dtype::kF64, {0, kWidth});
  AttentionLayer::Saved saved;
  layer.forward(check.ctx(), x, {.batch = 0, .length = kLength, .mask = {}, .bias = {}}, saved);
  layer.backward(check.ctx(), x, saved, check.grads);
  EXPECT_EQ(check.grads.closed(), (std::vector<std::string>{"test.output.bias", "test.output.weight", "test.qkv.bias", "test.qkv.weight"}));
  for (const Parameter* parameter : check.store.parameters()) {
    EXPECT_EQ(dot(check.grads.gradient(*parameter), check.grads.gradient(*parameter)), 0) << parameter->name;
  }
}

// switch.md 2.8: the factor 1/sqrt(K) is in the scores or in W_q, never in both and never in neither.
TEST(Attention, QueriesStartSmallerWhereScoresAreNotScaled) {
  const AttentionLayer unscaled = make(true, false, false), scaled = make(true, false, true);
  EXPECT_EQ(unscaled.qkv.weight.initializer.first_rows, kHeads * kHeadWidth);
  EXPECT_DOUBLE_EQ(unscaled.qkv.weight.initializer.first_rows_deviation, 1 / std::sqrt(double{kWidth * kHeadWidth}));
  EXPECT_DOUBLE_EQ(unscaled.qkv.weight.initializer.deviation, 1 / std::sqrt(double{kWidth}));
  EXPECT_EQ(scaled.qkv.weight.initializer.first_rows, 0);
  EXPECT_DOUBLE_EQ(scaled.output.weight.initializer.deviation, 1 / std::sqrt(double{kHeads * kHeadWidth}));
}

TEST(Attention, ADeviationThatIsAskedForIsThatOfQueriesKeysAndValues) {
  for (const bool scaled : {false, true}) {
    const AttentionLayer layer =
        AttentionLayer::make("test", {.width = kWidth, .heads = kHeads, .head_width = kHeadWidth, .scale_scores = scaled, .deviation = 0.125}, 0);
    EXPECT_EQ(layer.qkv.weight.initializer.deviation, 0.125);
    EXPECT_EQ(layer.qkv.weight.initializer.first_rows, 0);
  }
}

}  // namespace
}  // namespace switchyard::test
