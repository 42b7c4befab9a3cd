// What "the number of ranks and threads is not a hyper-parameter" asks of a backend: the bits of every result depend on
// the shapes and values of its call alone. Sizes are such that a backend has a reason to share out the work.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "tests/kernels/every_operation.h"

namespace switchyard {
namespace {

class Invariance : public testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    if (backend == nullptr) GTEST_SKIP() << "this machine has no device for " << GetParam().name;
  }
  EveryOperation operations(int64_t shift = 0) { return EveryOperation(*backend, activation, extents, shift); }

  const Dtype activation = GetParam().activation;
  const Extents extents = GetParam().extents;
  const std::unique_ptr<Backend> backend = GetParam().make();
};
INSTANTIATE_TEST_SUITE_P(Backends, Invariance, testing::ValuesIn(invariance_cases()), case_name);

TEST_P(Invariance, SameCallSameBits) {
  EveryOperation first = operations(), again = operations();
  first.all();
  again.all();
  expect_same_results(again, first, "the second time");
}

TEST_P(Invariance, AlignmentDoesNotChangeBits) {
  EveryOperation aligned = operations();
  aligned.all();
  for (int64_t shift : {1, 6}) {
    EveryOperation shifted = operations(shift);
    shifted.all();
    expect_same_results(shifted, aligned, "shifted by " + std::to_string(shift) + " elements");
  }
}

// An expert's rows are as many as chose it: a row must not notice how many others came.
TEST_P(Invariance, ARowOfAProductDoesNotDependOnTheNumberOfRows) {
  for (int64_t inner : extents.inner) {
    for (int64_t columns : {64, 200}) {
      for (Side side : {Side::kForward, Side::kBackward}) {
        EveryOperation runner = operations();
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

// Row by row: what each operation makes of rows first .. first + count - 1 of the same inputs.
struct RowByRow {
  using Results = std::vector<std::pair<std::string, Tensor>>;

  explicit RowByRow(EveryOperation operations) : e(std::move(operations)) {}

  EveryOperation e;
  const Extents& s = e.extents;
  const Tensor x = e.act({s.tokens, s.width}), dy = e.act(x.shape()), gate = e.act(x.shape()), scale = e.exact({s.width}), bias = e.exact({s.width});
  const Tensor statistics = e.exact({s.tokens, 2}, 0.5, 1), index = e.pool.integers({s.tokens, 2}, -1, s.tokens), weight = e.exact({s.tokens, 2});
  const Tensor logits = e.act({s.tokens, s.vocabulary}, -4, 4), targets = e.pool.integers({s.tokens}, -1, s.vocabulary);
  const Tensor scores = e.exact({s.tokens, s.experts}, -3, 3), qkv = e.act({s.tokens, 3 * s.width});

  static Dropout drop(int64_t first) { return {0.3, Random(1, Purpose::kHiddenDropout, 0, 3, static_cast<uint64_t>(1000 + first))}; }

  Results elements(int64_t first, int64_t count) {
    const auto rows = [&](const Tensor& t) { return t.slice_rows(first, count); };
    const Shape shape{count, s.width};
    const Tensor sum = e.result("add", e.activation, shape), noisy = e.result("jitter", Dtype::kF32, shape), h = e.result("h", e.activation, shape);
    const Tensor du = e.result("du", e.activation, shape), dgate = e.result("dgate", e.activation, shape), back = e.result("back", e.activation, shape);
    const Tensor payload = e.pool.make(Dtype::kI32, {count, payload_words(s.width)}), norms = e.result("norms", Dtype::kF32, {count, 2});
    e.backend.add(Out(sum), rows(x), rows(dy), drop(first));
    e.backend.jitter(Out(noisy), rows(x), 0.01, drop(first).random);
    e.backend.activate(Out(h), rows(x), rows(gate), Activation::kGelu, drop(first));
    e.backend.activate_backward(Out(du), Out(dgate), rows(dy), rows(x), rows(gate), Activation::kGelu, drop(first));
    e.backend.quantise(Out(payload), Out(norms), rows(x), PayloadFormat::kFp8);
    e.backend.dequantise(Out(back), Out(norms), payload, PayloadFormat::kFp8);
    return {{"add", sum}, {"jitter", noisy}, {"activate", h}, {"du", du}, {"dgate", dgate}, {"payload", payload}, {"norms", norms}, {"values", back}};
  }

  Results reductions(int64_t first, int64_t count) {
    const auto rows = [&](const Tensor& t) { return t.slice_rows(first, count); };
    const Shape shape{count, s.width};
    const Tensor y = e.result("y", e.activation, shape), made = e.result("made", Dtype::kF32, {count, 2}), dx = e.result("dx", e.activation, shape);
    const Tensor dscale = e.result("dscale", Dtype::kF32, {s.width}), dbias = e.result("dbias", Dtype::kF32, {s.width});
    const Tensor dlogits = e.pool.as(e.activation, rows(logits)), loss = e.result("loss", Dtype::kF32, {count});
    const Tensor correct = e.result("correct", Dtype::kI32, {count}), p = e.result("p", Dtype::kF32, {count, s.experts});
    const Tensor lse = e.result("lse", Dtype::kF32, {count}), expert = e.result("expert", Dtype::kI32, {count}), g = e.result("g", Dtype::kF32, {count});
    const Tensor gathered = e.result("gathered", e.activation, shape), dots = e.result("dots", Dtype::kF32, {count, 2});
    e.backend.norm_forward(Out(y), Out(made), rows(x), scale, bias, {});
    e.backend.norm_backward(Out(dx), Out(dscale), Out(dbias), rows(dy), rows(x), rows(statistics), scale, {});
    e.backend.cross_entropy(dlogits, Out(loss), Out(correct), rows(targets), {0.1, 1e-3, true});
    e.backend.router_forward(Out(p), Out(lse), Out(expert), Out(g), rows(scores), Tensor());
    e.backend.gather_rows(Out(gathered), x, rows(index), rows(weight));
    e.backend.row_dot(Out(dots), rows(dy), x, rows(index));
    return {{"norm", y},          {"statistics", made}, {"dx of norm", dx}, {"dlogits", dlogits}, {"loss", loss},         {"correct", correct},
            {"probabilities", p}, {"lse", lse},         {"expert", expert}, {"gate", g},          {"gathered", gathered}, {"dots", dots}};
  }

  // first and count: of whole sequences.
  Results sequences(int64_t first, int64_t count) {
    const AttentionShape shape{count / s.sequence, s.sequence, s.sequence, s.sequence, s.heads, s.width / s.heads, 0, true, 0.2};
    const auto part = [&](int64_t i) { return qkv.slice_columns(i * s.width, s.width).slice_rows(first, count); };
    const AttentionInputs in{part(0), part(1), part(2)};
    const Tensor o = e.result("o", e.activation, {count, s.width}), lse = e.result("lse", Dtype::kF32, {shape.batch, s.heads, s.sequence});
    const Tensor dq = e.result("dq", e.activation, o.shape()), dk = e.result("dk", e.activation, o.shape()), dv = e.result("dv", e.activation, o.shape());
    e.backend.attention_forward(Out(o), Out(lse), in, shape);
    e.backend.attention_backward(Out(dq), Out(dk), Out(dv), Out(Tensor()), dy.slice_rows(first, count), o, lse, in, shape);
    return {{"o", o}, {"dq", dq}, {"dk", dk}, {"dv", dv}};
  }

  static void compare(const Results& part, const Results& whole, int64_t first, int64_t count) {
    for (size_t i = 0; i < whole.size(); ++i) {
      expect_same_bits(part[i].second, whole[i].second.slice_rows(first, count),
                       whole[i].first + " of " + std::to_string(count) + " rows from " + std::to_string(first) + " on");
    }
  }
};

// Rows are shared out among ranks: none must notice how many others are beside it, or where it lies.
TEST_P(Invariance, ARowDoesNotDependOnTheRowsBesideIt) {
  RowByRow rows(operations());
  const int64_t n = extents.tokens;
  const RowByRow::Results elements = rows.elements(0, n), reductions = rows.reductions(0, n), sequences = rows.sequences(0, n);
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 1}, {0, 33}, {17, 1}, {5, 64}, {n - 3, 3}}) {
    RowByRow::compare(rows.elements(first, count), elements, first, count);
    RowByRow::compare(rows.reductions(first, count), reductions, first, count);
  }
  for (int64_t first = 0; first < n; first += extents.sequence) {
    RowByRow::compare(rows.sequences(first, extents.sequence), sequences, first, extents.sequence);
  }
}

// The exchange sends an expert's rows in chunks, which are multiplied as they come.
TEST_P(Invariance, AProductCutBetweenPanelsHasTheBitsOfTheWhole) {
  for (const auto& [inner, columns] : {std::pair<int64_t, int64_t>{64, 64}, {100, 130}, {768, 512}, {3072, 130}}) {
    EveryOperation runner = operations();
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
  for (int64_t inner : {65, 256, 3072}) {
    EveryOperation runner = operations();
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
