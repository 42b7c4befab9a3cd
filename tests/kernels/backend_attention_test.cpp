#include <algorithm>
#include <array>
#include <cmath>

#include "tests/kernels/backend_fixture.h"

namespace switchyard {
namespace {

struct Variant {
  const char* name;
  AttentionShape shape;
  bool mask, bias, together;  // together: q, k, v are columns of one matrix, as are their gradients
};

// batch, queries, keys, key_stride, heads, width, first_position, causal, scale
constexpr Variant kVariants[] = {
    {"one of everything", {1, 1, 1, 1, 1, 1, 0, true, 1}, false, false, false},
    {"no sequences", {0, 5, 5, 5, 2, 3, 0, true, 1}, false, false, false},
    {"causal", {2, 17, 17, 17, 3, 5, 0, true, 0.4}, false, false, true},
    {"causal with padding", {3, 33, 33, 33, 2, 17, 0, true, 0.25}, true, false, true},
    {"causal with bias", {2, 65, 65, 65, 2, 33, 0, true, 0.2}, false, true, true},
    {"full", {2, 63, 63, 63, 2, 16, 0, false, 0.25}, false, false, false},
    {"full with padding and bias", {2, 17, 65, 65, 3, 33, 0, false, 0.2}, true, true, false},
    {"wide heads", {1, 130, 130, 130, 2, 64, 0, true, 0.125}, true, false, true},
    {"wider heads", {1, 33, 33, 33, 1, 130, 0, true, 0.1}, false, false, true},
    {"one query into a cache", {3, 1, 18, 40, 2, 33, 17, true, 0.2}, false, false, false},
    {"some queries into a cache", {2, 3, 20, 31, 2, 17, 9, true, 0.25}, true, true, false},
};

class Attention : public BackendTest {
 protected:
  struct Data {
    AttentionInputs in;
    Tensor dq, dk, dv;
  };
  // Three tensors of `columns` columns: parts of one wider matrix, or strided ones of their own.
  void three(int64_t query_rows, int64_t key_rows, int64_t columns, bool together, Tensor& a, Tensor& b, Tensor& c) {
    if (together) {
      const Tensor whole = activations({query_rows, 3 * columns});
      a = whole.slice_columns(0, columns);
      b = whole.slice_columns(columns, columns);
      c = whole.slice_columns(2 * columns, columns);
    } else {
      a = pool.uniform_strided(activation, query_rows, columns);
      b = pool.uniform_strided(activation, key_rows, columns);
      c = pool.uniform_strided(activation, key_rows, columns);
    }
  }
  Data data(const Variant& v) {
    const AttentionShape& s = v.shape;
    Data d;
    three(s.batch * s.queries, s.batch * s.key_stride, s.heads * s.width, v.together, d.in.q, d.in.k, d.in.v);
    three(s.batch * s.queries, s.batch * s.key_stride, s.heads * s.width, v.together, d.dq, d.dk, d.dv);
    if (v.bias) d.in.bias = exacts({s.heads, s.queries, s.keys});
    if (v.mask) {
      d.in.mask = pool.integers({s.batch, s.keys}, 0, 3);                                 // one in three is hidden
      for (int64_t j = 0; j < s.keys; ++j) set(d.in.mask, 0, j, j < s.keys / 2 ? 0 : 5);  // early queries of sequence 0 may see nothing
    }
    return d;
  }
  AttentionInputs wide(const AttentionInputs& in) { return {pool.wide(in.q), pool.wide(in.k), pool.wide(in.v), in.mask, pool.as(Dtype::kF64, in.bias)}; }
  // What the roundings of each result are proportional to: the formulas with every term replaced by its magnitude. A
  // weight exp(score - log_sum_exp) is known to the size of its argument. Beside BF16, weights and gradients of scores
  // may be rounded once more, as operands of products: `operand` such roundings of the exact dtype make up one.
  struct Sizes {
    Tensor o, dq, dk, dv, dbias;
  };
  Sizes sizes(const AttentionInputs& in /* F64 */, const AttentionShape& s, const Tensor& d_o, const Tensor& o, const Tensor& lse) {
    const auto zeros = [&](const Tensor& x) { return pool.make(Dtype::kF64, x.shape()); };
    const Sizes size{zeros(in.q), zeros(in.q), zeros(in.k), zeros(in.v), pool.make(Dtype::kF64, {s.heads, s.queries, s.keys})};
    for (int64_t b = 0; b < s.batch; ++b) {
      for (int64_t h = 0; h < s.heads; ++h) {
        for (int64_t i = 0; i < s.queries; ++i) {
          for (int64_t j = 0; j < s.keys; ++j) {
            const bool hidden = (s.causal && j > s.first_position + i) || (in.mask.exists() && in.mask.get<int32_t>()[b * s.keys + j] == 0);
            if (!hidden) add_sizes(size, in, s, d_o, o, lse.get<double>()[(b * s.heads + h) * s.queries + i], {b, h, i, j});
          }
        }
      }
    }
    return size;
  }
  void add_sizes(const Sizes& size, const AttentionInputs& in, const AttentionShape& s, const Tensor& d_o, const Tensor& o, double lse,
                 const std::array<int64_t, 4>& place) const {
    const auto [b, h, i, j] = place;
    const double operand = activation == exact ? 0 : unit_roundoff(activation) / (unit_roundoff(exact) * units(s));
    const int64_t q = b * s.queries + i, k = b * s.key_stride + j, first = h * s.width, entry = (h * s.queries + i) * s.keys + j;
    double score = in.bias.exists() ? in.bias.get<double>()[entry] : 0, score_size = std::abs(score) + std::abs(lse), center = 0, center_size = 0;
    for (int64_t c = first; c < first + s.width; ++c) {
      score += s.scale * at(in.q, q, c) * at(in.k, k, c);
      score_size += s.scale * std::abs(at(in.q, q, c) * at(in.k, k, c));
      center += at(d_o, q, c) * (at(in.v, k, c) - at(o, q, c));
      center_size += std::abs(at(d_o, q, c)) * (std::abs(at(in.v, k, c)) + std::abs(at(o, q, c)));
    }
    const double p = std::exp(score - lse), ds = p * (1 + score_size) * center_size;
    const double p_operand = p * (1 + score_size) + operand * p, ds_operand = ds + operand * p * std::abs(center);
    for (int64_t c = first; c < first + s.width; ++c) {
      size.o.row<double>(q)[c] += p_operand * std::abs(at(in.v, k, c));
      size.dq.row<double>(q)[c] += s.scale * ds_operand * std::abs(at(in.k, k, c));
      size.dk.row<double>(k)[c] += s.scale * ds_operand * std::abs(at(in.q, q, c));
      size.dv.row<double>(k)[c] += p_operand * std::abs(at(d_o, q, c));
    }
    size.dbias.get<double>()[entry] += ds;
  }
  static double units(const AttentionShape& s) { return sum_units(s.width) + sum_units(std::max(s.keys, s.queries)); }
};
INSTANTIATE_TEST_SUITE_P(Backends, Attention, testing::ValuesIn(backend_cases()), case_name);

TEST_P(Attention, Forward) {
  for (const Variant& v : kVariants) {
    const AttentionShape& s = v.shape;
    const Data d = data(v);
    const Pair o(pool, target(activation, {s.batch * s.queries, s.heads * s.width}));
    const Pair lse(pool, target(exact, {s.batch, s.heads, s.queries}));
    backend->attention_forward(Out(o.actual), Out(lse.actual), d.in, s);
    reference->attention_forward(Out(o.expected), Out(lse.expected), wide(d.in), s);
    const Sizes size = sizes(wide(d.in), s, o.expected, o.expected, lse.expected);
    expect_close(o.actual, o.expected, units(s), size.o, std::string("o, ") + v.name);
    expect_close(lse.actual, lse.expected, units(s), 2 + s.scale * static_cast<double>(s.width), std::string("log_sum_exp, ") + v.name);
  }
  pool.expect_gaps_untouched();
}

TEST_P(Attention, Backward) {
  for (const Variant& v : kVariants) {
    for (bool add : {false, true}) {
      const AttentionShape& s = v.shape;
      const Data d = data(v);
      const AttentionInputs wide_in = wide(d.in);
      const Shape rows{s.batch * s.queries, s.heads * s.width};
      const Tensor o64 = pool.make(Dtype::kF64, rows), lse64 = pool.make(Dtype::kF64, {s.batch, s.heads, s.queries});
      reference->attention_forward(Out(o64), Out(lse64), wide_in, s);
      const Tensor o = pool.as(activation, o64), lse = pool.as(exact, lse64), d_o = activations(rows);
      const Tensor dbias = v.bias ? target(exact, {s.heads, s.queries, s.keys}) : Tensor(), dbias64 = pool.as(Dtype::kF64, dbias);
      const Tensor dq = pool.wide(d.dq), dk = pool.wide(d.dk), dv = pool.wide(d.dv);
      backend->attention_backward(Out(d.dq), Out(d.dk), Out(d.dv), {dbias, add}, d_o, o, lse, d.in, s);
      reference->attention_backward(Out(dq), Out(dk), Out(dv), {dbias64, add}, pool.wide(d_o), pool.wide(o), pool.wide(lse), wide_in, s);
      const Sizes size = sizes(wide_in, s, d_o, o, pool.wide(lse));
      expect_close(d.dq, dq, units(s), size.dq, std::string("dq, ") + v.name);
      expect_close(d.dk, dk, units(s), size.dk, std::string("dk, ") + v.name);
      expect_close(d.dv, dv, units(s), size.dv, std::string("dv, ") + v.name);
      if (!v.bias) continue;
      for (int64_t e = 0; add && e < dbias.elements(); ++e) size.dbias.get<double>()[e] += 1.5;
      expect_close(dbias, dbias64, units(s), size.dbias, std::string("dbias, ") + v.name);
    }
  }
  pool.expect_gaps_untouched();
}

TEST_P(Attention, AQueryThatSeesNothingIsZeroBothWays) {
  const AttentionShape s{1, 3, 3, 3, 1, 17, 0, true, 1};
  const AttentionInputs in{activations({3, 17}), activations({3, 17}), activations({3, 17}), pool.of(Dtype::kI32, {1, 3}, {0, 0, 1}), Tensor()};
  const Tensor o = target(activation, {3, 17}), lse = target(exact, {1, 1, 3}), d_o = activations({3, 17});
  const Tensor dq = target(activation, {3, 17}), dk = target(activation, {3, 17}), dv = target(activation, {3, 17});
  backend->attention_forward(Out(o), Out(lse), in, s);
  backend->attention_backward(Out(dq), Out(dk), Out(dv), Out(Tensor()), d_o, o, lse, in, s);
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_EQ(at(lse, i / 3, i), 0);
    for (int64_t c = 0; c < 17; ++c) {
      EXPECT_EQ(at(o, i, c), 0);
      EXPECT_EQ(at(dq, i, c), 0);
      EXPECT_EQ(at(dk, i, c), 0);
      EXPECT_EQ(at(dv, i, c), 0);
    }
  }
  for (int64_t c = 0; c < 17; ++c) EXPECT_EQ(at(o, 2, c), at(in.v, 2, c)) << "one visible key: its value";
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  const AttentionShape s{1, 1, 33, 33, 1, 1, 0, false, 1};
  const Tensor k = pool.filled(activation, {33, 1}, -1), v = pool.filled(activation, {33, 1}, 1);
  set(k, 20, 0, 1);
  set(v, 20, 0, 3);
  const Tensor o = target(activation, {1, 1}), lse = target(exact, {1, 1, 1});
  backend->attention_forward(Out(o), Out(lse), {pool.filled(activation, {1, 1}, 4096), k, v, Tensor(), Tensor()}, s);
  EXPECT_EQ(at(o, 0), 3);
  EXPECT_EQ(at(lse, 0), 4096);
}

}  // namespace
}  // namespace switchyard
