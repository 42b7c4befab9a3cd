// What "the number of ranks and threads is not a hyper-parameter" asks of a backend: the bits of every result depend on
// the shapes and values of its call alone. Sizes are such that a backend has a reason to share out the work.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/kernels/compare.h"

namespace switchyard {
namespace {

constexpr int64_t kTokens = 300, kWidth = 200, kSequence = 100, kHeads = 5, kVocabulary = 1001, kExperts = 17;

// Runs operations on numbers that depend on the pool's draws only, and keeps every result under a name.
struct Runner {
  Backend& backend;
  Dtype activation;
  Pool pool;
  Pool aligned{};  // packed matrices come from arenas, which align
  std::vector<std::pair<std::string, Tensor>> results{};

  Runner(Backend& b, Dtype dtype, int64_t shift) : backend(b), activation(dtype), pool(shift) {}

  Tensor act(Shape shape, double low = -1, double high = 1) { return pool.uniform(activation, shape, low, high); }
  Tensor exact(Shape shape, double low = -1, double high = 1) { return pool.uniform(Dtype::kF32, shape, low, high); }
  Tensor result(const std::string& name, Dtype dtype, Shape shape) {
    results.emplace_back(name, pool.uniform(dtype, shape));
    return results.back().second;
  }
  PackedMatrix pack(int64_t out, int64_t in, Side side) {
    PackedMatrix packed;
    packed.storage = aligned.make(Dtype::kI32, {(backend.packed_bytes(activation, out, in, side) + 3) / 4});
    packed.dtype = activation;
    packed.out = out;
    packed.in = in;
    packed.side = side;
    backend.pack(packed, exact({out, in}));
    return packed;
  }

  void elementwise() {
    const Random random(1, Purpose::kJitter, 0, 3, 1000);
    const Tensor x = act({kTokens, kWidth});
    backend.convert(Out(result("convert", Dtype::kF32, {kTokens, kWidth})), x);
    backend.add(Out(result("add", activation, {kTokens, kWidth})), x, act({kTokens, kWidth}), {0.3, random});
    backend.dropout(Out(result("dropout", activation, {kTokens, kWidth})), x, {0.3, random});
    backend.jitter(Accumulate(result("jitter", Dtype::kF32, {kTokens, kWidth})), x, 0.01, random);
    for (int64_t n : {1001, 70001}) {
      const Tensor values = act({n});
      backend.sum(Accumulate(result("sum", Dtype::kF64, {1})), values);
      backend.sum_of_squares(Out(result("sum_of_squares", Dtype::kF64, {1})), values);
    }
    backend.sum_rows(Accumulate(result("sum_rows", Dtype::kF32, {kWidth})), x);
    const Tensor gate = act({kTokens, kWidth}), dh = act({kTokens, kWidth});
    for (Activation kind : {Activation::kRelu, Activation::kGelu}) {
      backend.activate(Out(result("activate", activation, {kTokens, kWidth})), x, gate, kind, {0.3, random});
      backend.activate_backward(Out(result("du", activation, {kTokens, kWidth})), Out(result("dgate", activation, {kTokens, kWidth})), dh, x, gate, kind,
                                {0.3, random});
    }
  }

  void products() {
    for (int64_t inner : {64, 256, 1024, 2048, 3072}) {
      const PackedMatrix forward = pack(130, inner, Side::kForward), backward = pack(inner, 130, Side::kBackward);
      const std::string of = " of inner extent " + std::to_string(inner);
      const Tensor x = act({kTokens, inner}), few = act({17, inner});
      Product epilogue{x, &forward, Out(result("product with epilogue" + of, activation, {kTokens, 130}))};
      epilogue.bias = exact({130});
      epilogue.relu = true;
      epilogue.dropout = {0.2, Random(1, Purpose::kHiddenDropout, 0, 3, 1000)};
      const Product products[] = {{x, &forward, Accumulate(result("forward product" + of, Dtype::kF32, {kTokens, 130}))},
                                  {few, &forward, Out(result("forward product of few rows" + of, activation, {17, 130}))},
                                  {x, &backward, Out(result("backward product" + of, activation, {kTokens, 130}))},
                                  epilogue};
      backend.multiply(products);
      const Tensor dy = act({inner, 65}), rows = act({inner, 130});
      const Tensor dw = result("outer product" + of, Dtype::kF32, {65, 130});
      const OuterProduct lanes[] = {{dy, rows, Out(dw)}, {dy.slice_rows(3, 40), rows.slice_rows(9, 40), Accumulate(dw)}};
      backend.multiply_outer(lanes);
    }
  }

  void embedding_and_norm() {
    const Tensor tokens = pool.integers({kTokens}, 0, 50), x = act({kTokens, kWidth}), dy = act({kTokens, kWidth});
    backend.embed(Out(result("embed", activation, {kTokens, kWidth})), act({50, kWidth}), act({kSequence, kWidth}), tokens, kSequence, 0);
    backend.embed_backward(Accumulate(result("dtable", Dtype::kF32, {50, kWidth})), Out(result("dpositions", Dtype::kF32, {kSequence, kWidth})), dy, tokens,
                           kSequence);
    for (NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
      const bool layer_norm = kind == NormKind::kLayerNorm;
      const Tensor scale = exact({kWidth}), statistics = result("statistics", Dtype::kF32, {kTokens, 2});
      const Tensor bias = layer_norm ? exact({kWidth}) : Tensor(), dbias = layer_norm ? result("dbias", Dtype::kF32, {kWidth}) : Tensor();
      backend.norm_forward(Out(result("norm", activation, {kTokens, kWidth})), Out(statistics), x, scale, bias, {kind, 1e-5});
      backend.norm_backward(Out(result("dx of norm", activation, {kTokens, kWidth})), Out(result("dscale", Dtype::kF32, {kWidth})), Accumulate(dbias), dy, x,
                            statistics, scale, {kind, 1e-5});
    }
  }

  void attention() {
    const AttentionShape s{kTokens / kSequence, kSequence, kSequence, kSequence, kHeads, kWidth / kHeads, 0, true, 0.2};
    const Tensor qkv = act({kTokens, 3 * kWidth}), gradients = result("dq, dk, dv", activation, {kTokens, 3 * kWidth});
    const AttentionInputs in{qkv.slice_columns(0, kWidth), qkv.slice_columns(kWidth, kWidth), qkv.slice_columns(2 * kWidth, kWidth),
                             pool.integers({s.batch, s.keys}, 0, 4), exact({s.heads, s.queries, s.keys})};
    const Tensor o = result("attention", activation, {kTokens, kWidth}), lse = result("log_sum_exp", Dtype::kF32, {s.batch, s.heads, s.queries});
    backend.attention_forward(Out(o), Out(lse), in, s);
    backend.attention_backward(Out(gradients.slice_columns(0, kWidth)), Out(gradients.slice_columns(kWidth, kWidth)),
                               Out(gradients.slice_columns(2 * kWidth, kWidth)), Accumulate(result("dbias of attention", Dtype::kF32, in.bias.shape())),
                               act({kTokens, kWidth}), o, lse, in, s);
    const Tensor bucket = pool.integers({s.queries + s.keys - 1}, 0, 32);
    backend.relative_bias(Out(result("relative bias", Dtype::kF32, in.bias.shape())), exact({32, kHeads}), bucket);
    backend.relative_bias_backward(Accumulate(result("dtable of relative bias", Dtype::kF32, {32, kHeads})), exact(in.bias.shape()), bucket);
  }

  void loss_and_update() {
    const Tensor logits = result("dlogits", activation, {kTokens, kVocabulary}), targets = pool.integers({kTokens}, -1, kVocabulary);
    backend.cross_entropy(logits, Out(result("loss", Dtype::kF32, {kTokens})), Out(result("correct", Dtype::kI32, {kTokens})), targets, {0.1, 1e-3, true});
    const Tensor w = result("master", Dtype::kF32, {70001}), m = result("m", Dtype::kF32, {70001}), v = result("v", Dtype::kF32, {70001});
    const Tensor speed = result("momentum", Dtype::kF32, {70001}), gradient = exact({70001});
    backend.convert(Out(v), exact({70001}, 0, 1));
    backend.adamw(w, m, v, gradient, {0.01, 0.9, 0.95, 1e-8, 0.1, 0.1, 0.05, 0.7});
    backend.sgd(w, speed, gradient, {0.01, 0.9, 0.1, 0.7});
  }

  void routing() {
    const RouterShape s{kTokens, kExperts, 64};
    const RouterLoss loss{0.3, 0.02};
    const Tensor p = result("probabilities", Dtype::kF32, {kTokens, kExperts}), lse = result("router log_sum_exp", Dtype::kF32, {kTokens});
    const Tensor expert = result("expert", Dtype::kI32, {kTokens}), gate = result("gate", Dtype::kF32, {kTokens});
    const Tensor requested = result("requested", Dtype::kI32, {s.groups(), kExperts}), kept = result("kept", Dtype::kI32, {kExperts});
    const Tensor slot = result("slot", Dtype::kI32, {kTokens}), position = result("position", Dtype::kI32, {kTokens});
    const Tensor token = result("token", Dtype::kI32, {kTokens});
    backend.router_forward(Out(p), Out(lse), Out(expert), Out(gate), exact({kTokens, kExperts}, -3, 3), pool.integers({kTokens}, 0, 5));
    backend.assign_slots(Out(requested), Out(kept), Out(slot), Out(position), Out(token), expert, s, 4);
    backend.router_losses(Out(result("router losses", Dtype::kF64, {kRouterSums})), p, lse, expert, requested, s, loss);
    backend.router_backward(Out(result("router dlogits", Dtype::kF32, {kTokens, kExperts})), exact({kTokens}), p, lse, expert, requested, s, loss);
    const Tensor x = act({kTokens, kWidth}), index = pool.integers({kTokens, 2}, -1, kTokens), a = act({kTokens, kWidth});
    backend.gather_rows(Out(result("gather_rows", activation, {kTokens, kWidth})), x, token, Tensor());
    backend.gather_rows(Accumulate(result("weighted gather_rows", Dtype::kF32, {kTokens, kWidth})), x, index, exact({kTokens, 2}));
    backend.row_dot(Out(result("row_dot", Dtype::kF32, {kTokens, 2})), a, x, index);
  }

  void payloads() {
    const Tensor x = act({kTokens, kWidth});
    for (PayloadFormat format : {PayloadFormat::kInt8, PayloadFormat::kFp8}) {
      const Tensor payload = pool.make(Dtype::kI32, {kTokens, payload_words(kWidth)});
      results.emplace_back("payload", payload);
      backend.quantise(Out(payload), Out(result("norms", Dtype::kF32, {kTokens, 2})), x, format);
      backend.dequantise(Out(result("values of a payload", activation, {kTokens, kWidth})), Out(result("norms of a payload", Dtype::kF32, {kTokens, 2})),
                         payload, format);
    }
  }

  void all() {
    elementwise();
    products();
    embedding_and_norm();
    attention();
    loss_and_update();
    routing();
    payloads();
  }
};

void expect_same_results(const Runner& actual, const Runner& expected, const std::string& when) {
  ASSERT_EQ(actual.results.size(), expected.results.size());
  for (size_t i = 0; i < actual.results.size(); ++i) {
    expect_same_bits(actual.results[i].second, expected.results[i].second, actual.results[i].first + ", " + when);
  }
}

class Invariance : public testing::TestWithParam<Dtype> {
 protected:
  const Dtype activation = GetParam();
};
INSTANTIATE_TEST_SUITE_P(Cpu, Invariance, testing::Values(Dtype::kF32, Dtype::kBF16), [](const auto& c) { return name(c.param); });

TEST_P(Invariance, SameCallSameBits) {
  const auto backend = make_cpu_backend(2);
  Runner first(*backend, activation, 0), again(*backend, activation, 0);
  first.all();
  again.all();
  expect_same_results(again, first, "the second time");
}

TEST_P(Invariance, ThreadsDoNotChangeBits) {
  const auto one = make_cpu_backend(1);
  Runner alone(*one, activation, 0);
  alone.all();
  for (int threads : {2, 3, 8}) {
    const auto many = make_cpu_backend(threads);
    Runner together(*many, activation, 0);
    together.all();
    expect_same_results(together, alone, "with " + std::to_string(threads) + " threads");
  }
}

TEST_P(Invariance, AlignmentDoesNotChangeBits) {
  const auto backend = make_cpu_backend(2);
  Runner aligned(*backend, activation, 0);
  aligned.all();
  for (int64_t shift : {1, 6}) {
    Runner shifted(*backend, activation, shift);
    shifted.all();
    expect_same_results(shifted, aligned, "shifted by " + std::to_string(shift) + " elements");
  }
}

// An expert's rows are as many as chose it: a row must not notice how many others came.
TEST_P(Invariance, ARowOfAProductDoesNotDependOnTheNumberOfRows) {
  const auto backend = make_cpu_backend(2);
  for (int64_t inner : {64, 256, 1024, 2048, 3072}) {
    for (int64_t columns : {64, 200}) {
      for (Side side : {Side::kForward, Side::kBackward}) {
        Runner runner(*backend, activation, 0);
        const PackedMatrix matrix = side == Side::kForward ? runner.pack(columns, inner, side) : runner.pack(inner, columns, side);
        const Tensor x = runner.act({700, inner});
        const auto product = [&](int64_t n, Dtype to) {
          const Tensor y = runner.result("y", to, {n, columns});
          const Product p{x.slice_rows(0, n), &matrix, Out(y)};
          backend->multiply({&p, 1});
          return y;
        };
        for (Dtype to : {activation, Dtype::kF32}) {
          const Tensor all = product(700, to);
          for (int64_t n : {1, 15, 16, 17, 33, 64, 130, 512, 699}) {
            expect_same_bits(product(n, to), all.slice_rows(0, n),
                             std::to_string(n) + " of 700 rows, inner extent " + std::to_string(inner) + ", columns " + std::to_string(columns));
          }
        }
      }
    }
  }
}

// The exchange sends an expert's rows in chunks, which are multiplied as they come.
TEST_P(Invariance, AProductCutBetweenPanelsHasTheBitsOfTheWhole) {
  const auto backend = make_cpu_backend(2);
  for (const auto& [inner, columns] : {std::pair<int64_t, int64_t>{64, 64}, {100, 130}, {768, 512}, {3072, 130}}) {
    Runner runner(*backend, activation, 0);
    const PackedMatrix matrix = runner.pack(columns, inner, Side::kForward);
    const Tensor x = runner.act({2 * kRowPanel + 130, inner}), bias = runner.exact({columns});
    const auto product = [&](int64_t first, int64_t end, const Tensor& y) {
      Product p{x.slice_rows(first, end - first), &matrix, Out(y.slice_rows(first, end - first))};
      p.bias = bias;
      p.relu = true;
      p.dropout = {0.2, Random(1, Purpose::kExpertDropout, 0, 3, static_cast<uint64_t>(1000 + first))};
      backend->multiply({&p, 1});
    };
    for (Dtype to : {activation, Dtype::kF32}) {
      const Tensor whole = runner.result("whole", to, {x.rows(), columns}), cut = runner.result("cut", to, {x.rows(), columns});
      product(0, x.rows(), whole);
      for (int64_t first = 0; first < x.rows(); first += kRowPanel) product(first, std::min(x.rows(), first + kRowPanel), cut);
      expect_same_bits(cut, whole, "inner extent " + std::to_string(inner) + ", columns " + std::to_string(columns));
    }
  }
}

// A stride is where rows lie, not what they are.
TEST_P(Invariance, StridesDoNotChangeBits) {
  const auto backend = make_cpu_backend(2);
  for (int64_t inner : {65, 256, 3072}) {
    Runner runner(*backend, activation, 0);
    const PackedMatrix matrix = runner.pack(130, inner, Side::kForward);
    const Tensor x = runner.pool.uniform_strided(activation, 70, inner), dy = runner.pool.uniform_strided(activation, 70, 33);
    const Tensor y = runner.pool.strided(activation, 70, 130), dense = runner.act({70, 130});
    const Tensor dw = runner.exact({33, inner}), dense_dw = runner.exact({33, inner});
    const Tensor dense_x = runner.pool.as(activation, x), dense_dy = runner.pool.as(activation, dy);
    const Product products[] = {{x, &matrix, Out(y)}, {dense_x, &matrix, Out(dense)}};
    backend->multiply(products);
    expect_same_bits(y, dense, "product of strided rows, inner extent " + std::to_string(inner));
    const OuterProduct outer[] = {{dy, x, Out(dw)}, {dense_dy, dense_x, Out(dense_dw)}};
    backend->multiply_outer(outer);
    expect_same_bits(dw, dense_dw, "outer product of strided rows, width " + std::to_string(inner));
  }
}

}  // namespace
}  // namespace switchyard
