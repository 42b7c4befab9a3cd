// Every backward of the reference in F64: central differences where the forward is not linear, <A x, y> = <x, A' y>
// where it is. Experts are decided far from ties, ReLU far from its kink.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/compare.h"

namespace switchyard {
namespace {

constexpr Dtype kF64 = Dtype::kF64;
constexpr double kTolerance = 1e-6;  // of relative_difference
constexpr double kLinearTolerance = 1e-12;

class ReferenceGradient : public testing::Test {
 protected:
  Tensor uniform(Shape shape, double low = -1, double high = 1) { return pool.uniform(kF64, shape, low, high); }
  Tensor zeros(Shape shape) { return pool.make(kF64, shape); }
  void expect_gradient(const Tensor& x, const Tensor& dx, const std::function<double()>& loss, const char* what) {
    const Tensor numeric = numeric_gradient(pool, x, loss);
    EXPECT_LE(relative_difference(dx, numeric), kTolerance) << what;
    EXPECT_GT(inner_product(numeric, numeric), 0) << what << ": the gradient is 0, which proves nothing";
  }
  // <forward(x), dy> = <x, backward(dy)>
  void expect_adjoint(const Tensor& y, const Tensor& dy, const Tensor& x, const Tensor& dx, const char* what) {
    const double forward = inner_product(y, dy), backward = inner_product(x, dx);
    EXPECT_NEAR(forward, backward, kLinearTolerance * std::max(1.0, std::abs(forward))) << what;
    EXPECT_GT(std::abs(forward), 1e-6) << what << ": orthogonal by accident, which proves little";
  }
  PackedMatrix packed(const Tensor& w, Side side) {
    PackedMatrix matrix{pool.make(Dtype::kI32, {w.bytes() / 4}), kF64, w.rows(), w.columns(), side};
    backend->pack(matrix, w);
    return matrix;
  }

  Pool pool;
  std::unique_ptr<Backend> backend = make_reference_backend();
};

TEST_F(ReferenceGradient, CheckerRefusesAFactorOfOnePerMille) {
  const Tensor x = uniform({3, 4}), dx = zeros({3, 4});
  const auto loss = [&] { return inner_product(x, x); };
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t c = 0; c < 4; ++c) set(dx, r, c, 2 * at(x, r, c));
  }
  EXPECT_LE(relative_difference(dx, numeric_gradient(pool, x, loss)), kTolerance);
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t c = 0; c < 4; ++c) set(dx, r, c, 1.001 * 2 * at(x, r, c));
  }
  EXPECT_GT(relative_difference(dx, numeric_gradient(pool, x, loss)), 100 * kTolerance);
}

class NormGradient : public ReferenceGradient, public testing::WithParamInterface<NormKind> {};

TEST_P(NormGradient, MatchesCentralDifferences) {
  const bool layer_norm = GetParam() == NormKind::kLayerNorm;
  const Norm norm{GetParam(), 1e-5};
  const Tensor x = uniform({4, 7}), scale = uniform({7}, 0.5, 1.5), bias = layer_norm ? uniform({7}) : Tensor(), dy = uniform({4, 7});
  const Tensor y = zeros({4, 7}), statistics = zeros({4, 2});
  const auto loss = [&] {
    backend->norm_forward(Out(y), Out(statistics), x, scale, bias, norm);
    return inner_product(y, dy);
  };
  loss();
  const Tensor dx = zeros({4, 7}), dscale = zeros({7}), dbias = layer_norm ? zeros({7}) : Tensor();
  backend->norm_backward(Out(dx), Out(dscale), Out(dbias), dy, x, statistics, scale, norm);
  const Tensor saved = pool.as(kF64, statistics);
  expect_gradient(x, dx, loss, "dx");
  expect_gradient(scale, dscale, loss, "dscale");
  if (layer_norm) expect_gradient(bias, dbias, loss, "dbias");
  const Tensor twice = pool.as(kF64, dx);
  backend->norm_backward(Accumulate(twice), Out(dscale), Out(dbias), dy, x, saved, scale, norm);
  EXPECT_NEAR(inner_product(twice, twice), 4 * inner_product(dx, dx), 1e-12) << "Accumulate adds the same again";
}

INSTANTIATE_TEST_SUITE_P(Kinds, NormGradient, testing::Values(NormKind::kLayerNorm, NormKind::kRmsNorm),
                         [](const auto& c) { return c.param == NormKind::kLayerNorm ? "LayerNorm" : "RmsNorm"; });

struct AttentionCase {
  const char* name;
  bool causal, mask, bias;
  int64_t queries, keys, first_position;
};

class AttentionGradient : public ReferenceGradient, public testing::WithParamInterface<AttentionCase> {};

TEST_P(AttentionGradient, MatchesCentralDifferences) {
  const AttentionCase& c = GetParam();
  const AttentionShape shape{2, c.queries, c.keys, c.keys + 1, 2, 3, c.first_position, c.causal, 0.6};
  const int64_t rows = 2 * c.queries, key_rows = 2 * shape.key_stride;
  AttentionInputs in{uniform({rows, 6}), uniform({key_rows, 6}), uniform({key_rows, 6}), Tensor(), Tensor()};
  if (c.mask) {  // sequence 0 loses key 1, sequence 1 its first key, so that its first query sees none when causal
    in.mask = pool.filled(Dtype::kI32, {2, c.keys}, 1);
    set(in.mask, 0, 1, 0);
    set(in.mask, 1, 0, 0);
  }
  if (c.bias) in.bias = uniform({2, c.queries, c.keys});
  const Tensor o = zeros({rows, 6}), lse = zeros({2, 2, c.queries}), d_o = uniform({rows, 6});
  const auto loss = [&] {
    backend->attention_forward(Out(o), Out(lse), in, shape);
    return inner_product(o, d_o);
  };
  loss();
  const Tensor dq = zeros({rows, 6}), dk = pool.filled(kF64, {key_rows, 6}, 5), dv = pool.filled(kF64, {key_rows, 6}, 5);
  const Tensor dbias = c.bias ? zeros({2, c.queries, c.keys}) : Tensor();
  backend->attention_backward(Out(dq), Out(dk), Out(dv), Out(dbias), d_o, o, lse, in, shape);
  expect_gradient(in.q, dq, loss, "dq");
  expect_gradient(in.k, dk, loss, "dk");
  expect_gradient(in.v, dv, loss, "dv");
  if (c.bias) expect_gradient(in.bias, dbias, loss, "dbias");
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionGradient,
                         testing::Values(AttentionCase{"full", false, false, false, 4, 5, 0}, AttentionCase{"causal", true, false, false, 4, 4, 0},
                                         AttentionCase{"causal_mask", true, true, false, 4, 4, 0}, AttentionCase{"bias", false, true, true, 3, 5, 0},
                                         AttentionCase{"causal_bias_later", true, false, true, 2, 5, 3}),
                         [](const auto& c) { return c.param.name; });

TEST_F(ReferenceGradient, CrossEntropyWithZ) {
  const CrossEntropy options{0.25, 0.01, true};
  const Tensor logits = uniform({5, 7}, -3, 3), targets = pool.of(Dtype::kI32, {5}, {3, 0, -1, 6, 3});
  const Tensor correct = pool.make(Dtype::kI32, {5}), loss = zeros({5}), ones = pool.filled(kF64, {5}, 1);
  const auto forward = [&] {
    backend->cross_entropy(pool.as(kF64, logits), Out(loss), Out(correct), targets, options);
    return inner_product(loss, ones);
  };
  const Tensor dlogits = pool.as(kF64, logits);
  backend->cross_entropy(dlogits, Out(loss), Out(correct), targets, options);
  expect_gradient(logits, dlogits, forward, "dlogits");
}

class RouterGradient : public ReferenceGradient {
 protected:
  // Two groups of five tokens and a last one of three, four experts, capacity 2, two tokens of padding.
  static constexpr int64_t kTokens = 13, kExperts = 4;
  const RouterShape shape{kTokens, kExperts, 5};
  const Tensor logits = uniform({kTokens, kExperts}, -2, 2);
  const Tensor mask = pool.filled(Dtype::kI32, {kTokens}, 1);
  const Tensor p = zeros({kTokens, kExperts}), lse = zeros({kTokens}), gate = zeros({kTokens}), sums = zeros({kRouterSums});
  const Tensor expert = ints({kTokens}), requested = ints({3, kExperts}), kept = ints({kExperts}), slot = ints({kTokens});
  const Tensor position = ints({kTokens}), token = ints({kTokens});
  const Tensor dgate = uniform({kTokens});

  Tensor ints(Shape s) { return pool.make(Dtype::kI32, s); }
  void SetUp() override {
    set(mask, 4, 0, 0);
    set(mask, 9, 0, 0);
  }
  double forward(const RouterLoss& loss) {
    backend->router_forward(Out(p), Out(lse), Out(expert), Out(gate), logits, mask);
    backend->assign_slots(Out(requested), Out(kept), Out(slot), Out(position), Out(token), expert, shape, {2});
    backend->router_losses(Out(sums), p, lse, expert, requested, shape, loss);
    return inner_product(gate, dgate) + at(sums, 0) + at(sums, 1);
  }
  void check(const RouterLoss& loss) {
    forward(loss);
    int64_t dropped = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      if (at(slot, t) >= 0) continue;
      set(dgate, t, 0, 0);
      dropped += at(expert, t) >= 0 ? 1 : 0;
    }
    ASSERT_GT(dropped, 0) << "the example must drop tokens";
    const Tensor dlogits = pool.filled(kF64, {kTokens, kExperts}, 5);
    backend->router_backward(Out(dlogits), dgate, p, lse, expert, requested, shape, loss);
    expect_gradient(
        logits, dlogits, [&] { return forward(loss); }, "dlogits");
  }
};

TEST_F(RouterGradient, OfTheGate) { check({0, 0}); }
TEST_F(RouterGradient, OfTheBalanceLoss) { check({0.7, 0}); }
TEST_F(RouterGradient, OfTheZLoss) { check({0, 0.3}); }
TEST_F(RouterGradient, OfAllTogether) { check({0.7, 0.3}); }

TEST_F(ReferenceGradient, Embedding) {
  const Tensor table = uniform({5, 3}), positions = uniform({4, 3}), tokens = pool.of(Dtype::kI32, {6}, {4, 0, 4, 1, 1, 4});
  const Tensor x = zeros({6, 3}), dx = uniform({6, 3});
  const Tensor dtable = pool.filled(kF64, {5, 3}, 5), dpositions = pool.filled(kF64, {4, 3}, 5);
  const auto loss = [&] {
    backend->embed(Out(x), table, positions, tokens, 3, 0);
    return inner_product(x, dx);
  };
  backend->embed_backward(Out(dtable), Out(dpositions), dx, tokens, 3);
  expect_gradient(table, dtable, loss, "dtable");
  expect_gradient(positions, dpositions, loss, "dpositions");
}

TEST_F(ReferenceGradient, JitterAndDropoutAreTheirOwnAdjoints) {
  const Tensor x = uniform({6, 9}), dy = uniform({6, 9}), y = zeros({6, 9}), dx = zeros({6, 9});
  const Random random(3, Purpose::kJitter, 1, 4, 77);
  backend->jitter(Out(y), x, 0.1, random);
  backend->jitter(Out(dx), dy, 0.1, random);
  expect_adjoint(y, dy, x, dx, "jitter");
  backend->dropout(Out(y), x, {0.4, random});
  backend->dropout(Out(dx), dy, {0.4, random});
  expect_adjoint(y, dy, x, dx, "dropout");
}

TEST_F(ReferenceGradient, ProductsAreAdjoint) {
  const Tensor w = uniform({5, 7}), x = uniform({3, 7}), dy = uniform({3, 5});
  const Tensor y = zeros({3, 5}), dx = zeros({3, 7}), dw = pool.filled(kF64, {5, 7}, 5);
  const PackedMatrix forward = packed(w, Side::kForward), backward = packed(w, Side::kBackward);
  const Product products[] = {{x, &forward, Out(y)}, {dy, &backward, Out(dx)}};
  backend->multiply(products);
  expect_adjoint(y, dy, x, dx, "dx");
  const OuterProduct outer{dy, x, Out(dw)};
  backend->multiply_outer({&outer, 1});
  expect_adjoint(y, dy, w, dw, "dw");
}

// h = dropout(relu(x W1' + b)), y = h W2'; the backward of h is the epilogue relu_of of the product dy W2.
TEST_F(ReferenceGradient, EpiloguesOfAFeedForward) {
  const Tensor x = uniform({6, 4}), w1 = uniform({8, 4}), w2 = uniform({4, 8}), bias = uniform({8}), dy = uniform({6, 4});
  const Tensor h = zeros({6, 8}), y = zeros({6, 4}), dh = zeros({6, 8}), dx = zeros({6, 4}), dw1 = zeros({8, 4}), dbias = zeros({8});
  const Dropout dropout{0.3, Random(5, Purpose::kHiddenDropout, 0, 1, 10)};
  const auto loss = [&] {
    const PackedMatrix first = packed(w1, Side::kForward), second = packed(w2, Side::kForward);
    const Product up{x, &first, Out(h), bias, true, dropout}, down{h, &second, Out(y)};
    backend->multiply({&up, 1});
    backend->multiply({&down, 1});
    return inner_product(y, dy);
  };
  loss();
  const PackedMatrix first = packed(w1, Side::kBackward), second = packed(w2, Side::kBackward);
  Product down{dy, &second, Out(dh)};
  down.relu_of = h;
  down.relu_of_scale = 1 / (1 - dropout.rate);
  const Product up{dh, &first, Out(dx)};
  backend->multiply({&down, 1});
  backend->multiply({&up, 1});
  const OuterProduct outer{dh, x, Out(dw1)};
  backend->multiply_outer({&outer, 1});
  backend->sum_rows(Out(dbias), dh);
  expect_gradient(x, dx, loss, "dx");
  expect_gradient(w1, dw1, loss, "dw1");
  expect_gradient(bias, dbias, loss, "dbias");
}

TEST_F(ReferenceGradient, GatherAndRowDotAreAdjoint) {
  // y[i] = sum over k of w[i, k] x[index[i, k]]:  dw = row_dot(dy, x, index);  dx by the inverse index
  const Tensor x = uniform({5, 4}), w = uniform({6, 2}), dy = uniform({6, 4}), y = zeros({6, 4}), dw = zeros({6, 2});
  const Tensor index = pool.of(Dtype::kI32, {6, 2}, {0, 3, -1, 2, 1, 1, 4, -1, -1, -1, 3, 0});
  backend->gather_rows(Out(y), x, index, w);
  backend->row_dot(Out(dw), dy, x, index);
  expect_adjoint(y, dy, w, dw, "dw");
  for (int64_t k : {0, 2, 5, 9}) EXPECT_EQ(index.get<int32_t>()[k] < 0 ? dw.get<double>()[k] : 0, 0) << "no row, no gradient";
}

TEST_F(ReferenceGradient, DispatchAndCombineAreAdjoint) {
  const Tensor position = pool.of(Dtype::kI32, {5}, {2, -1, 0, 3, 1}), token = pool.of(Dtype::kI32, {5}, {2, 4, 0, 3, -1});
  const Tensor x = uniform({5, 4}), dy = uniform({5, 4}), rows = zeros({5, 4}), dx = zeros({5, 4});
  backend->gather_rows(Out(rows), x, token, Tensor());    // packs rows by (expert, slot)
  backend->gather_rows(Out(dx), dy, position, Tensor());  // and back
  expect_adjoint(rows, dy, x, dx, "dispatch");
}

}  // namespace
}  // namespace switchyard
