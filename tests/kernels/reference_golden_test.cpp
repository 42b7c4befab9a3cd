// The reference against numbers that were worked out by hand or by other means. The routing examples are those of the
// Switch Transformer paper's equations: A (slots), B (balance loss), C (z-loss).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/compare.h"

namespace switchyard {
namespace {

constexpr Dtype kF64 = Dtype::kF64;

class ReferenceGolden : public testing::Test {
 protected:
  // Logits whose softmax is `probabilities`.
  Tensor logits_of(Shape shape, std::vector<double> probabilities) {
    for (double& p : probabilities) p = std::log(p);
    return pool.of(kF64, shape, probabilities);
  }
  void expect_values(const Tensor& x, const std::vector<double>& expected, double tolerance = 1e-12) {
    ASSERT_EQ(x.elements(), static_cast<int64_t>(expected.size()));
    for (int64_t i = 0; i < x.elements(); ++i) {
      EXPECT_NEAR(at(x, i / x.columns(), i % x.columns()), expected[static_cast<size_t>(i)], tolerance) << "element " << i;
    }
  }

  Pool pool;
  std::unique_ptr<Backend> backend = make_reference_backend();
};

struct Routed {
  Tensor probabilities, log_sum_exp, expert, gate, requested, kept, slot, position, token, sums;
};

Routed route(Backend& backend, Pool& pool, const Tensor& logits, const Tensor& mask, const RouterShape& shape, int64_t capacity, const RouterLoss& loss) {
  Routed r;
  r.probabilities = pool.make(logits.dtype(), logits.shape());
  r.log_sum_exp = pool.make(logits.dtype(), {shape.tokens});
  r.expert = pool.make(Dtype::kI32, {shape.tokens});
  r.gate = pool.make(logits.dtype(), {shape.tokens});
  backend.router_forward(Out(r.probabilities), Out(r.log_sum_exp), Out(r.expert), Out(r.gate), logits, mask);
  r.requested = pool.make(Dtype::kI32, {shape.groups(), shape.experts});
  r.kept = pool.make(Dtype::kI32, {shape.experts});
  r.slot = pool.make(Dtype::kI32, {shape.tokens});
  r.position = pool.make(Dtype::kI32, {shape.tokens});
  r.token = pool.make(Dtype::kI32, {shape.tokens});
  backend.assign_slots(Out(r.requested), Out(r.kept), Out(r.slot), Out(r.position), Out(r.token), r.expert, shape, {capacity});
  r.sums = pool.make(kF64, {kRouterSums});
  backend.router_losses(Out(r.sums), r.probabilities, r.log_sum_exp, r.expert, r.requested, shape, loss);
  return r;
}

TEST_F(ReferenceGolden, RoutesExampleA) {
  const Tensor logits = logits_of({6, 2}, {.9, .1, .6, .4, .2, .8, .7, .3, .45, .55, .1, .9});
  const Routed r = route(*backend, pool, logits, Tensor(), {6, 2, 6}, 2, {2, 0});  // experts * alpha / G with alpha 1
  expect_values(r.expert, {0, 0, 1, 0, 1, 1});
  expect_values(r.gate, {.9, .6, .8, .7, .55, .9});
  expect_values(r.slot, {0, 1, 0, -1, 1, -1});
  expect_values(r.position, {0, 1, 2, -1, 3, -1});
  expect_values(r.token, {0, 1, 2, 4, -1, -1});
  expect_values(r.requested, {3, 3});
  expect_values(r.kept, {2, 2});
  EXPECT_NEAR(at(r.sums, 0), 1.0, 1e-12) << "f is uniform, so the balance loss before alpha is 1";
  EXPECT_NEAR(at(r.sums, 3), .9 + .6 + .8 + .7 + .55 + .9, 1e-12);
}

TEST_F(ReferenceGolden, BalancesExampleB) {
  const Tensor p = pool.of(kF64, {6, 2}, {.8, .2, .7, .3, .6, .4, .3, .7, .9, .1, .4, .6});
  const Tensor expert = pool.of(Dtype::kI32, {6}, {0, 0, 0, 1, 0, 1});
  const Tensor requested = pool.of(Dtype::kI32, {1, 2}, {4, 2}), sums = pool.make(kF64, {kRouterSums});
  backend->router_losses(Out(sums), p, pool.make(kF64, {6}), expert, requested, {6, 2, 6}, {2, 0});
  EXPECT_NEAR(at(sums, 0), 1.0777778, 5e-8);
}

TEST_F(ReferenceGolden, SumsZOfExampleC) {
  const Tensor logits = pool.of(kF64, {3, 4}, {1, 2, 3, 4, 0, 0, 0, 0, -1, .5, 2, .25});
  const Routed r = route(*backend, pool, logits, Tensor(), {3, 4, 3}, 3, {0, 1.0 / 3});
  expect_values(r.log_sum_exp, {4.4401897, 1.3862944, 2.3692790}, 5e-8);
  EXPECT_NEAR(at(r.sums, 1), 9.0835265, 5e-8);
  EXPECT_EQ(at(r.expert, 1), 0) << "the lowest index wins a tie";
  EXPECT_EQ(at(r.gate, 1), 0.25);
  EXPECT_EQ(at(r.sums, 0), 0);
}

TEST_F(ReferenceGolden, EntropyOfAUniformRouterIsItsLogarithm) {
  const Routed r = route(*backend, pool, pool.make(kF64, {3, 8}), Tensor(), {3, 8, 3}, 3, {});
  EXPECT_NEAR(at(r.sums, 2), 3 * std::log(8.0), 1e-12);
  const Tensor certain = pool.of(kF64, {1, 2}, {0, -2000});  // probability 0: 0 ln 0 = 0
  EXPECT_EQ(at(route(*backend, pool, certain, Tensor(), {1, 2, 1}, 1, {}).sums, 2), 0);
}

// Groups of 4 with capacity 1; the last group has 2 tokens; token 2 and all of group 1 are padding.
TEST_F(ReferenceGolden, CapacityCountsWithinAGroupAndSlotsThroughTheMicroBatch) {
  const Tensor expert = pool.of(Dtype::kI32, {10}, {1, 1, -1, 0, -1, -1, -1, -1, 1, 1});
  const RouterShape shape{10, 3, 4};
  const Tensor requested = pool.make(Dtype::kI32, {3, 3}), kept = pool.make(Dtype::kI32, {3}), slot = pool.make(Dtype::kI32, {10});
  const Tensor position = pool.make(Dtype::kI32, {10}), token = pool.make(Dtype::kI32, {10});
  backend->assign_slots(Out(requested), Out(kept), Out(slot), Out(position), Out(token), expert, shape, {1});
  expect_values(requested, {1, 2, 0, 0, 0, 0, 0, 2, 0});
  expect_values(kept, {1, 2, 0});
  expect_values(slot, {0, -1, -1, 0, -1, -1, -1, -1, 1, -1});
  expect_values(position, {1, -1, -1, 0, -1, -1, -1, -1, 2, -1});
  expect_values(token, {3, 0, 8, -1, -1, -1, -1, -1, -1, -1});
  const Tensor blocks = pool.make(Dtype::kI32, {9});
  backend->assign_slots(Out(requested), Out(kept), Out(slot), Out(position), Out(blocks), expert, shape, {1, 3});
  expect_values(slot, {0, -1, -1, 0, -1, -1, -1, -1, 1, -1});
  expect_values(position, {3, -1, -1, 0, -1, -1, -1, -1, 4, -1});
  expect_values(blocks, {3, -1, -1, 0, 8, -1, -1, -1, -1});
  EXPECT_THROW(backend->assign_slots(Out(requested), Out(kept), Out(slot), Out(position), Out(pool.make(Dtype::kI32, {6})), expert, shape, {1, 2}), InternalError)
      << "three groups may keep three";
  backend->assign_slots(Out(requested), Out(kept), Out(slot), Out(position), Out(token), expert, shape, {0});
  expect_values(kept, {0, 0, 0});
  expect_values(requested, {1, 2, 0, 0, 0, 0, 0, 2, 0});
}

// Balance of two groups, the second with padding: each group is its own mean over its own tokens that count.
TEST_F(ReferenceGolden, BalanceIsTheSumOfItsGroups) {
  const Tensor logits = logits_of({4, 2}, {.8, .2, .4, .6, .9, .1, .5, .5});
  const Tensor mask = pool.of(Dtype::kI32, {4}, {1, 1, 1, 0});
  const Routed r = route(*backend, pool, logits, mask, {4, 2, 2}, 2, {1, 0});
  expect_values(r.expert, {0, 1, 0, -1});
  EXPECT_EQ(at(r.gate, 3), 0);
  EXPECT_NEAR(at(r.sums, 0), (.5 * .6 + .5 * .4) + 1 * .9, 1e-12);
}

TEST_F(ReferenceGolden, LayerNormOfOneToFour) {
  const Tensor x = pool.of(kF64, {1, 4}, {1, 2, 3, 4}), y = pool.make(kF64, {1, 4}), statistics = pool.make(kF64, {1, 2});
  const Tensor scale = pool.of(kF64, {4}, {1, 2, 1, 1}), bias = pool.of(kF64, {4}, {0, 0, 10, 0});
  backend->norm_forward(Out(y), Out(statistics), x, scale, bias, {NormKind::kLayerNorm, 0});
  const double d = std::sqrt(1.25);  // the variance is divided by the number of columns
  expect_values(y, {-1.5 / d, 2 * -.5 / d, .5 / d + 10, 1.5 / d});
  expect_values(statistics, {2.5, 1 / d});
}

TEST_F(ReferenceGolden, RmsNormOfThreeAndFour) {
  const Tensor x = pool.of(kF64, {1, 2}, {3, 4}), y = pool.make(kF64, {1, 2}), statistics = pool.make(kF64, {1, 2});
  backend->norm_forward(Out(y), Out(statistics), x, pool.of(kF64, {2}, {1, 10}), Tensor(), {NormKind::kRmsNorm, 12.5});
  expect_values(y, {3 / 5.0, 40 / 5.0});  // mean of squares 12.5, epsilon 12.5
  expect_values(statistics, {0, .2});
}

class AttentionGolden : public ReferenceGolden {
 protected:
  // Three keys whose values are 1, 10, 100, all scores 0: the output is the mean of the visible values.
  std::vector<double> mean_of_visible(AttentionShape shape, const Tensor& mask) {
    const AttentionInputs in{pool.make(kF64, {shape.queries, 1}), pool.make(kF64, {shape.key_stride, 1}), values(shape.key_stride), mask, Tensor()};
    const Tensor o = pool.make(kF64, {shape.queries, 1});
    lse = pool.make(kF64, {1, 1, shape.queries});
    backend->attention_forward(Out(o), Out(lse), in, shape);
    std::vector<double> result;
    for (int64_t i = 0; i < shape.queries; ++i) result.push_back(at(o, i));
    return result;
  }
  Tensor values(int64_t rows) {
    const Tensor v = pool.filled(kF64, {rows, 1}, 1e9);  // rows beyond the keys are never read
    for (int64_t j = 0; j < 3; ++j) set(v, j, 0, std::pow(10, static_cast<double>(j)));
    return v;
  }
  Tensor lse;
};

TEST_F(AttentionGolden, SeesEverythingWithoutMasks) {
  EXPECT_THAT(mean_of_visible({1, 3, 3, 3, 1, 1, 0, false, 1}, Tensor()), testing::ElementsAre(37, 37, 37));
  EXPECT_NEAR(at(lse, 0), std::log(3.0), 1e-15);
}

TEST_F(AttentionGolden, SeesThePastAndItselfWhenCausal) {
  EXPECT_THAT(mean_of_visible({1, 3, 3, 3, 1, 1, 0, true, 1}, Tensor()), testing::ElementsAre(1, 5.5, 37));
}

TEST_F(AttentionGolden, FirstPositionShiftsTheDiagonal) {
  EXPECT_THAT(mean_of_visible({1, 2, 3, 5, 1, 1, 1, true, 1}, Tensor()), testing::ElementsAre(5.5, 37));
}

TEST_F(AttentionGolden, MaskHidesKeysAndNothingVisibleIsZero) {
  const Tensor mask = pool.of(Dtype::kI32, {1, 3}, {0, 1, 1});
  EXPECT_THAT(mean_of_visible({1, 3, 3, 3, 1, 1, 0, true, 1}, mask), testing::ElementsAre(0, 10, 55));
  EXPECT_EQ(at(lse, 0, 0), 0);
  EXPECT_NEAR(at(lse, 0, 2), std::log(2.0), 1e-15);
}

TEST_F(AttentionGolden, ScoresAreScaledProductsPlusBias) {
  // q = 2, k = (1, 3), scale 1/2, bias (0, ln 3 - 2): scores 1 and 1 + ln 3, weights 1/4 and 3/4.
  const Tensor bias = pool.of(kF64, {1, 1, 2}, {0, std::log(3.0) - 2});
  const AttentionInputs in{pool.of(kF64, {1, 1}, {2}), pool.of(kF64, {2, 1}, {1, 3}), pool.of(kF64, {2, 1}, {4, 8}), Tensor(), bias};
  const Tensor o = pool.make(kF64, {1, 1}), log_sum_exp = pool.make(kF64, {1, 1, 1});
  backend->attention_forward(Out(o), Out(log_sum_exp), in, {1, 1, 2, 2, 1, 1, 0, false, .5});
  EXPECT_NEAR(at(o, 0), 7, 1e-14);
  EXPECT_NEAR(at(log_sum_exp, 0), 1 + std::log(4.0), 1e-14);
}

TEST_F(ReferenceGolden, CrossEntropyOfTwoClasses) {
  // Row 0: softmax (1/4, 3/4), Z = ln 4; row 1 has no target; row 2 is a tie, which the lower index wins.
  const double ln3 = std::log(3.0), z = std::log(4.0), c = 0.125;
  const Tensor logits = pool.of(kF64, {3, 2}, {0, ln3, 5, 6, 2, 2});
  const Tensor loss = pool.make(kF64, {3}), correct = pool.make(Dtype::kI32, {3}), targets = pool.of(Dtype::kI32, {3}, {1, -1, 1});
  backend->cross_entropy(logits, Out(loss), Out(correct), targets, {0.5, c, true});
  const double z2 = 2 + std::log(2.0);
  expect_values(loss, {.5 * (z - ln3 + c * z * z), 0, .5 * (z2 - 2 + c * z2 * z2)});
  expect_values(correct, {1, 0, 0});
  const double f = 1 + 2 * c * z, f2 = 1 + 2 * c * z2;
  expect_values(logits, {.5 * f * .25, .5 * (f * .75 - 1), 0, 0, .5 * f2 * .5, .5 * (f2 * .5 - 1)});
}

TEST_F(ReferenceGolden, CrossEntropyLeavesLogitsAloneWithoutGradient) {
  const Tensor logits = pool.of(kF64, {2, 2}, {800, 0, -3, 4}), loss = pool.make(kF64, {2});
  backend->cross_entropy(logits, Out(loss), Out(pool.make(Dtype::kI32, {2})), pool.of(Dtype::kI32, {2}, {1, -1}), {1, 0, false});
  expect_values(logits, {800, 0, -3, 4});
  expect_values(loss, {800, 0});
}

TEST_F(ReferenceGolden, AdamWTakesItsFirstStepOfTheLearningRate) {
  const Tensor w = pool.of(kF64, {2}, {1, -2}), m = pool.make(kF64, {2}), v = pool.make(kF64, {2}), g = pool.of(kF64, {2}, {.5, -4});
  const AdamW options{0.1, 0.9, 0.99, 0, 0.01, 1 - 0.9, 1 - 0.99, 0.5};
  backend->adamw(w, m, v, g, options);
  expect_values(w, {1 - .1 * .01 - .1, -2 + .1 * .01 * 2 + .1});  // m / sqrt(v) is the sign of g
  expect_values(m, {.1 * .25, .1 * -2});
  expect_values(v, {.01 * .0625, .01 * 4});
}

TEST_F(ReferenceGolden, SgdAddsUpMomentumAndDecaysByItself) {
  const Tensor w = pool.of(kF64, {1}, {1}), momentum = pool.of(kF64, {1}, {2}), g = pool.of(kF64, {1}, {3});
  backend->sgd(w, momentum, g, {0.1, 0.5, 0.01, 2});
  expect_values(momentum, {.5 * 2 + 6});
  expect_values(w, {1 - .1 * .01 - .1 * 7});
  const Tensor plain = pool.of(kF64, {1}, {1});
  backend->sgd(plain, Tensor(), g, {0.1, 0, 0, 1});
  expect_values(plain, {1 - .3});
}

TEST_F(ReferenceGolden, RefusesWhatLiesOutside) {
  const Tensor table = pool.make(kF64, {3, 2}), x = pool.make(kF64, {1, 2});
  for (double token : {-1.0, 3.0}) {
    EXPECT_THROW(backend->embed(Out(x), table, Tensor(), pool.of(Dtype::kI32, {1}, {token}), 1, 0), InternalError) << "token " << token;
  }
  EXPECT_THROW(backend->gather_rows(Out(x), table, pool.of(Dtype::kI32, {1}, {3}), Tensor()), InternalError);
  EXPECT_THROW(backend->convert(Out(x), table), InternalError);
  EXPECT_THROW(backend->add(Out(x), x, pool.make(Dtype::kF32, {1, 2}), {}), InternalError);
  EXPECT_FALSE(backend->supports(Dtype::kBF16));
}

}  // namespace
}  // namespace switchyard
