#include "src/layers/relative_bias.h"

#include <cmath>

#include "src/layers/attention.h"
#include "tests/layers/layer_check.h"

namespace switchyard::test {
namespace {

// switch.md 2.4: the first distance of every bucket of T5.
TEST(RelativeBias, ThresholdsAreT5s) {
  EXPECT_EQ(relative_thresholds(16, 128), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91}));
  EXPECT_EQ(relative_thresholds(32, 128),
            (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113}));
}

// min(B - 1, m + trunc(ln(n / m) / ln(distance / m) * (B - m))) in long double, for shapes whose distances are no powers
// that a logarithm could miss.
TEST(RelativeBias, ThresholdsFollowTheFormula) {
  for (const auto& [count, distance] :
       std::vector<std::pair<int, int64_t>>{{2, 2}, {3, 5}, {5, 7}, {10, 1000}, {31, 777}, {64, 33}, {64, 5000}, {256, 100003}}) {
    const std::vector<int64_t> first = relative_thresholds(count, distance);
    ASSERT_EQ(static_cast<int>(first.size()), count);
    const long double exact = static_cast<long double>(count / 2), rest = static_cast<long double>(count) - exact;
    int64_t bucket = 0;
    for (int64_t n = 0; n <= distance + 3; ++n) {
      while (bucket + 1 < count && first[static_cast<size_t>(bucket) + 1] <= n) ++bucket;
      int64_t expected = n;
      if (n >= count / 2) {
        const long double place = std::log(static_cast<long double>(n) / exact) / std::log(static_cast<long double>(distance) / exact) * rest;
        if (std::abs(place - std::round(place)) < 1e-12L && n != count / 2 && n < distance) continue;  // for integers to decide
        expected = std::min<int64_t>(count - 1, count / 2 + static_cast<int64_t>(place + 1e-15L));
      }
      ASSERT_EQ(bucket, expected) << "distance " << n << " of " << count << " buckets up to " << distance;
    }
  }
}

// Distances that lie exactly on a boundary belong to the bucket that begins there.
TEST(RelativeBias, PowersAreOnTheirBoundary) {
  const std::vector<int64_t> first = relative_thresholds(20, 10240);  // bucket 10 + k begins at 10 * 2^k
  for (int k = 0; k < 10; ++k) EXPECT_EQ(first[static_cast<size_t>(10 + k)], 10 << k);
}

TEST(RelativeBias, BucketsOfBothDirections) {
  const RelativeBiasLayer causal = RelativeBiasLayer::make("test", 2, 32, 128, true), both = RelativeBiasLayer::make("test", 2, 32, 128, false);
  struct Known {
    int64_t relative;
    int32_t causal, both;
  };
  for (const Known& k : {Known{0, 0, 0},
                         {-1, 1, 1},
                         {-8, 8, 8},
                         {-12, 12, 9},
                         {-16, 16, 10},
                         {-90, 29, 14},
                         {-91, 29, 15},
                         {-112, 30, 15},
                         {-113, 31, 15},
                         {-100000, 31, 15},
                         {1, 0, 17},
                         {7, 0, 23},
                         {8, 0, 24},
                         {11, 0, 24},
                         {12, 0, 25},
                         {91, 0, 31},
                         {100000, 0, 31}}) {
    EXPECT_EQ(causal.bucket(k.relative), k.causal) << "relative position " << k.relative;
    EXPECT_EQ(both.bucket(k.relative), k.both) << "relative position " << k.relative;
  }
}

TEST(RelativeBias, ImpossibleTablesAreRefused) {
  EXPECT_THROW(relative_thresholds(1, 128), InternalError);
  EXPECT_THROW(relative_thresholds(257, 1000), InternalError);
  EXPECT_THROW(relative_thresholds(32, 16), InternalError) << "the logarithmic half needs room";
  EXPECT_THROW(relative_thresholds(32, int64_t{1} << 31), InternalError);
}

TEST(RelativeBias, TheTableStartsSmallAndDoesNotDecay) {
  const RelativeBiasLayer layer = RelativeBiasLayer::make("decoder.relative_bias", 4, 32, 128, true);
  EXPECT_EQ(layer.table.name, "decoder.relative_bias.weight");
  EXPECT_EQ(layer.table.shape, (Shape{32, 4}));
  EXPECT_FALSE(layer.table.decay);
  EXPECT_DOUBLE_EQ(layer.table.initializer.deviation, std::sqrt(2.0 / 36)) << "Glorot's";
}

TEST(RelativeBias, NewQueriesGetTheirRowsOfTheWhole) {
  for (const bool causal : {true, false}) {
    LayerCheck check;
    RelativeBiasLayer layer = RelativeBiasLayer::make("test", 3, 8, 6, causal);
    layer.visit(check.store.visitor());
    check.store.fill(1);
    RelativeBiasLayer::Saved saved;
    const Tensor whole = layer.forward(check.ctx(), 9, 9, 0, saved);
    for (const auto& [n, length] : std::vector<std::pair<int64_t, int64_t>>{{9, 0}, {4, 0}, {1, 5}, {3, 6}}) {
      const Tensor part = layer.forward(check.ctx(), n, length + n, length, saved);
      for (int64_t h = 0; h < 3; ++h) {
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t j = 0; j < length + n; ++j) {
            EXPECT_EQ(get(part, (h * n + i) * (length + n) + j), get(whole, (h * 9 + length + i) * 9 + j)) << n << " queries after " << length;
            EXPECT_EQ(get(part, (h * n + i) * (length + n) + j), get(check.store.master(layer.table), layer.bucket(j - length - i) * 3 + h));
          }
        }
      }
    }
  }
}

// Two attention layers that share one bias, as the blocks of a stack do: attention of the second on the first's output.
void check_stack(bool causal) {
  constexpr int64_t kBatch = 2, kLength = 7, kWidth = 6, kHeads = 2;
  LayerCheck check;
  RelativeBiasLayer relative = RelativeBiasLayer::make("relative", kHeads, 8, 5, causal);
  const AttentionLayer::Options options{.width = kWidth, .heads = kHeads, .head_width = 4, .causal = causal};
  AttentionLayer first = AttentionLayer::make("first", options, 0), second = AttentionLayer::make("second", options, 1);
  relative.visit(check.store.visitor());
  first.visit(check.store.visitor());
  second.visit(check.store.visitor());
  check.store.fill(1);
  const Tensor x = check.bench.normal({kBatch * kLength, kWidth}, 2), between = check.bench.tensor(Dtype::kF64, x.shape());
  RelativeBiasLayer::Saved saved_bias;
  AttentionLayer::Saved saved_first, saved_second;
  const auto forward = [&] {
    AttentionPlan plan{.batch = kBatch, .length = kLength, .mask = {}, .bias = {}};
    plan.bias = relative.forward(check.ctx(), kLength, kLength, 0, saved_bias);
    check.bench.backend->convert(Out(between), first.forward(check.ctx(), x, plan, saved_first));
    return second.forward(check.ctx(), between, plan, saved_second);
  };
  const auto backward = [&](const Tensor& dy) {
    const Tensor dbias = check.bench.tensor(Dtype::kF64, {kHeads, kLength, kLength});
    const Tensor dbetween = second.backward(check.ctx(), dy, saved_second, check.grads, Out(dbias));
    const Tensor dx = first.backward(check.ctx(), dbetween, saved_first, check.grads, Accumulate(dbias));
    relative.backward(check.ctx(), dbias, saved_bias, check.grads);
    return dx;
  };
  check.run(x.shape(), forward, backward, [&](Tensor dx) { return std::vector<Checked>{{"x", x, dx}}; });
  EXPECT_EQ(check.grads.closed().back(), "relative.weight") << "closed after the blocks, once";
}

TEST(RelativeBias, GradientsOfAStackAreSlopesWhenCausal) { check_stack(true); }
TEST(RelativeBias, GradientsOfAStackAreSlopesWhenFull) { check_stack(false); }

TEST(RelativeBias, NoSequencesGiveAZeroGradient) {
  LayerCheck check;
  RelativeBiasLayer layer = RelativeBiasLayer::make("test", 2, 8, 6, true);
  layer.visit(check.store.visitor());
  check.store.fill(1);
  RelativeBiasLayer::Saved saved;
  EXPECT_EQ(layer.forward(check.ctx(), 0, 0, 0, saved).elements(), 0);
  layer.backward(check.ctx(), check.bench.tensor(Dtype::kF64, {2, 0, 0}), saved, check.grads);
  EXPECT_EQ(dot(check.grads.gradient(layer.table), check.grads.gradient(layer.table)), 0);
}

}  // namespace
}  // namespace switchyard::test
