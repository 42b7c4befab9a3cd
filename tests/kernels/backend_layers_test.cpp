// Embedding, norm and loss of a backend against the reference.
#include <algorithm>
#include <cmath>

#include "tests/kernels/backend_fixture.h"

namespace switchyard {
namespace {

class Embedding : public BackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Embedding, testing::ValuesIn(backend_cases()), case_name);

TEST_P(Embedding, AddsPositions) {
  for (int64_t width : kOddExtents) {
    for (int64_t tokens : {0, 1, 22}) {
      for (bool with_positions : {false, true}) {
        const Tensor table = activations({19, width}), ids = pool.integers({tokens}, 0, 19);
        const Tensor positions = with_positions ? activations({12, width}) : Tensor();
        const Pair x(pool, target(activation, {tokens, width}));
        backend->embed(Out(x.actual), table, positions, ids, 7, 5);
        reference->embed(Out(x.expected), pool.wide(table), pool.as(Dtype::kF64, positions), ids, 7, 5);
        expect_close(x.actual, x.expected, 1, 2, label("embed", tokens, width));
      }
    }
  }
}

TEST_P(Embedding, BackwardAddsRepeatedTokensInOrder) {
  for (int64_t width : {1, 17, 65, 130}) {
    for (int64_t tokens : {0, 1, 22, 200}) {
      for (int variant = 0; variant < 8; ++variant) {
        const bool add = (variant & 1) != 0, add_positions = (variant & 2) != 0, positions = (variant & 4) != 0;
        const Tensor ids = pool.integers({tokens}, 2, 11), dx = activations({tokens, width});  // rows 0, 1, 11.. get nothing
        const Pair table(pool, target(exact, {19, width}));
        const Tensor table_size = pool.wide(table.actual), position = positions ? target(exact, {9, width}) : Tensor();
        const Tensor position_expected = pool.as(Dtype::kF64, position), position_size = pool.as(Dtype::kF64, position);
        backend->embed_backward({table.actual, add}, {position, add_positions}, dx, ids, 7);
        reference->embed_backward({table.expected, add}, {position_expected, add_positions}, pool.wide(dx), ids, 7);
        reference->embed_backward({table_size, add}, {position_size, add_positions}, pool.magnitude(dx), ids, 7);
        expect_close(table.actual, table.expected, sum_units(tokens), table_size, label("dtable", tokens, width));
        if (positions) expect_close(position, position_expected, sum_units(tokens), position_size, label("dpositions", tokens, width));
      }
    }
  }
}

class Norms : public BackendTest {
 protected:
  // The largest magnitude in a tensor, at least `least`.
  static double largest(const Tensor& x, double least) {
    for (int64_t r = 0; r < x.rows(); ++r) {
      for (int64_t c = 0; c < x.columns(); ++c) least = std::max(least, std::abs(at(x, r, c)));
    }
    return least;
  }
  void compare_forward(int64_t n, int64_t width, const Norm& norm) {
    const bool with_bias = norm.kind == NormKind::kLayerNorm;
    const Tensor x = activations({n, width}, -1, 3), scale = exacts({width}, 0.5, 1.5), bias = with_bias ? exacts({width}) : Tensor();
    const Pair y(pool, target(activation, {n, width})), statistics(pool, target(exact, {n, 2}));
    backend->norm_forward(Out(y.actual), Out(statistics.actual), x, scale, bias, norm);
    reference->norm_forward(Out(y.expected), Out(statistics.expected), pool.wide(x), pool.wide(scale), pool.as(Dtype::kF64, bias), norm);
    // A centred number is known to |x| units, and rstd multiplies them.
    const double spread = largest(statistics.expected, 1);
    expect_close(y.actual, y.expected, 8 + sum_units(width), 3 * 1.5 * spread, label("y", n, width));
    expect_close(statistics.actual, statistics.expected, 8 + sum_units(width), 3 * spread * spread, label("statistics", n, width));
  }
  // What the roundings of the gradients are proportional to: their formulas with every term replaced by its magnitude,
  // and 1.5 for what was in the target.
  struct Sizes {
    Tensor dx, dscale;
  };
  Sizes sizes(const Tensor& dy, const Tensor& x, const Tensor& statistics, const Tensor& scale) {
    const Sizes size{pool.filled(Dtype::kF64, x.shape(), 1.5), pool.filled(Dtype::kF64, scale.shape(), 1.5)};
    const double width = static_cast<double>(x.columns());
    for (int64_t r = 0; r < x.rows(); ++r) {
      const double mean = std::abs(at(statistics, r, 0)), rstd = at(statistics, r, 1);
      const auto h = [&](int64_t c) { return (std::abs(at(x, r, c)) + mean) * rstd; };
      const auto g = [&](int64_t c) { return std::abs(at(dy, r, c)) * scale.get<double>()[c]; };
      double mean_g = 0, mean_gh = 0;
      for (int64_t c = 0; c < x.columns(); ++c) {
        mean_g += g(c) / width;
        mean_gh += g(c) * h(c) / width;
      }
      for (int64_t c = 0; c < x.columns(); ++c) {
        size.dx.row<double>(r)[c] += rstd * (g(c) + mean_g + h(c) * mean_gh);
        size.dscale.get<double>()[c] += std::abs(at(dy, r, c)) * h(c);
      }
    }
    return size;
  }
  void compare_backward(int64_t n, int64_t width, const Norm& norm, bool add) {
    const bool with_bias = norm.kind == NormKind::kLayerNorm;
    const Tensor x = activations({n, width}, -1, 3), scale = exacts({width}, 0.5, 1.5), dy = activations({n, width});
    const Tensor y64 = pool.make(Dtype::kF64, {n, width}), statistics64 = pool.make(Dtype::kF64, {n, 2});
    const Tensor no_bias = with_bias ? pool.make(Dtype::kF64, {width}) : Tensor();
    reference->norm_forward(Out(y64), Out(statistics64), pool.wide(x), pool.wide(scale), no_bias, norm);
    const Tensor statistics = pool.as(exact, statistics64);
    const Pair dx(pool, target(activation, {n, width})), dscale(pool, target(exact, {width}));
    const Tensor dbias = with_bias ? target(exact, {width}) : Tensor(), dbias64 = pool.as(Dtype::kF64, dbias);
    backend->norm_backward({dx.actual, add}, {dscale.actual, add}, {dbias, add}, dy, x, statistics, scale, norm);
    reference->norm_backward({dx.expected, add}, {dscale.expected, add}, {dbias64, add}, pool.wide(dy), pool.wide(x), pool.wide(statistics), pool.wide(scale),
                             norm);
    const Sizes size = sizes(pool.wide(dy), pool.wide(x), statistics64, pool.wide(scale));
    expect_close(dx.actual, dx.expected, sum_units(width), size.dx, label("dx", n, width));
    expect_close(dscale.actual, dscale.expected, sum_units(n), size.dscale, label("dscale", n, width));
    if (with_bias) expect_close(dbias, dbias64, sum_units(n), 1.5 + static_cast<double>(n), label("dbias", n, width));
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, Norms, testing::ValuesIn(backend_cases()), case_name);

TEST_P(Norms, Forward) {
  for (NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    for (int64_t n : {0, 1, 17, 65}) {
      for (int64_t width : {3, 17, 33, 63, 64, 65, 130, 1000}) compare_forward(n, width, {kind, 1e-2});
    }
  }
}

TEST_P(Norms, Backward) {
  for (NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    for (int64_t n : {0, 1, 17, 65, 300}) {
      for (int64_t width : {3, 17, 33, 63, 64, 65, 130}) {
        for (bool add : {false, true}) compare_backward(n, width, {kind, 1e-2}, add);
      }
    }
  }
}

TEST_P(Norms, AConstantRowHasNoVarianceAndNoNaN) {
  const Tensor x = pool.filled(activation, {2, 65}, 3), y = target(activation, {2, 65}), statistics = target(exact, {2, 2});
  backend->norm_forward(Out(y), Out(statistics), x, pool.filled(exact, {65}, 1), pool.filled(exact, {65}, 0.5), {NormKind::kLayerNorm, 1e-5});
  for (int64_t c = 0; c < 65; ++c) EXPECT_NEAR(at(y, 1, c), 0.5, 1e-3);
}

// The variance as mean(x^2) - mean^2 would lose everything here.
TEST_P(Norms, LayerNormOfNumbersFarFromZero) {
  const Tensor x = pool.make(activation, {1, 64}), y = target(activation, {1, 64}), statistics = target(exact, {1, 2});
  for (int64_t c = 0; c < 64; ++c) set(x, 0, c, activation == Dtype::kBF16 ? (c % 2 == 0 ? 256 : 258) : (c % 2 == 0 ? 65536 : 65538));
  backend->norm_forward(Out(y), Out(statistics), x, pool.filled(exact, {64}, 1), pool.make(exact, {64}), {NormKind::kLayerNorm, 0});
  for (int64_t c = 0; c < 64; ++c) EXPECT_NEAR(at(y, 0, c), c % 2 == 0 ? -1 : 1, 1e-5) << "column " << c;
}

class Loss : public BackendTest {
 protected:
  // What the roundings of one row are proportional to: exp(l - Z) is known to |l| + |Z| units.
  Tensor gradient_size(const Tensor& logits, const Tensor& targets, const CrossEntropy& options) {
    const Tensor size = pool.make(Dtype::kF64, logits.shape());
    for (int64_t r = 0; r < logits.rows(); ++r) {
      double total = 0;
      for (int64_t c = 0; c < logits.columns(); ++c) total += std::exp(at(logits, r, c));
      const double z = std::log(total);
      for (int64_t c = 0; c < logits.columns(); ++c) {
        const double l = at(logits, r, c), p = std::exp(l - z) * (1 + 2 * options.z * std::abs(z)) * (2 + std::abs(l) + 2 * std::abs(z));
        set(size, r, c, options.scale * (p + (at(targets, r) == static_cast<double>(c) ? 1 : 0)));
      }
    }
    return size;
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, Loss, testing::ValuesIn(backend_cases()), case_name);

TEST_P(Loss, CrossEntropy) {
  for (int64_t n : {0, 1, 17, 65}) {
    for (int64_t vocabulary : {1, 3, 17, 33, 63, 65, 130, 1000}) {
      for (double z : {0.0, 1e-2}) {
        for (bool gradient : {false, true}) {
          const CrossEntropy options{0.125, z, gradient};
          const Tensor start = activations({n, vocabulary}, -4, 4), targets = pool.integers({n}, -1, vocabulary);
          const Pair logits(pool, pool.as(activation, start)), loss(pool, target(exact, {n}));
          const Tensor correct = integers({n}), expected_correct = integers({n});
          backend->cross_entropy(logits.actual, Out(loss.actual), Out(correct), targets, options);
          reference->cross_entropy(logits.expected, Out(loss.expected), Out(expected_correct), targets, options);
          expect_close(loss.actual, loss.expected, 2 * sum_units(vocabulary), 0.125 * (16 + z * 120), label("loss", n, vocabulary));
          expect_same_bits(correct, expected_correct, label("correct", n, vocabulary));
          if (gradient) {
            const Tensor size = gradient_size(start, targets, options);
            expect_close(logits.actual, logits.expected, 4 + sum_units(vocabulary), size, label("dlogits", n, vocabulary));
          } else {
            expect_same_bits(logits.actual, start, "logits without gradient");
          }
        }
      }
    }
  }
}

TEST_P(Loss, TiesGoToTheLowestIndex) {
  for (int64_t vocabulary : kOddExtents) {
    for (int64_t best : {int64_t{0}, vocabulary / 2, vocabulary - 1}) {
      const Tensor logits = pool.filled(activation, {vocabulary, vocabulary}, -1), correct = integers({vocabulary}), targets = integers({vocabulary});
      for (int64_t r = 0; r < vocabulary; ++r) {
        set(targets, r, 0, static_cast<double>(r));
        for (int64_t c = best; c < vocabulary; c += 2) set(logits, r, c, 2);
      }
      backend->cross_entropy(logits, Out(pool.make(exact, {vocabulary})), Out(correct), targets, {});
      for (int64_t r = 0; r < vocabulary; ++r) EXPECT_EQ(at(correct, r), r == best ? 1 : 0) << vocabulary << " classes, target " << r;
    }
  }
}

TEST_P(Loss, LargeLogitsDoNotOverflow) {
  const Tensor logits = pool.filled(activation, {2, 65}, -3e4), loss = target(exact, {2}), correct = integers({2});
  set(logits, 0, 64, 3e4);
  set(logits, 1, 64, 3e4);
  backend->cross_entropy(logits, Out(loss), Out(correct), pool.of(Dtype::kI32, {2}, {64, 0}), {1, 0, true});
  EXPECT_EQ(at(loss, 0), 0);
  EXPECT_NEAR(at(loss, 1), 6e4, 1e-2 * 6e4);
  EXPECT_EQ(at(logits, 1, 0), -1);
  EXPECT_EQ(at(logits, 1, 64), 1);
  EXPECT_EQ(at(logits, 0, 64), 0);
}

class Updates : public BackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Updates, testing::ValuesIn(backend_cases()), case_name);

TEST_P(Updates, AdamW) {
  for (int64_t n : {0, 1, 17, 63, 64, 65, 1000}) {
    const Pair w(pool, exacts({n})), m(pool, exacts({n}, -0.1, 0.1)), v(pool, exacts({n}, 0, 0.1));
    for (int step = 1; step <= 3; ++step) {
      const Tensor gradient = exacts({n});
      const AdamW options{0.01, 0.9, 0.95, 1e-8, 0.1, 1 - std::pow(0.9, step), 1 - std::pow(0.95, step), 0.5};
      backend->adamw(w.actual, m.actual, v.actual, gradient, options);
      reference->adamw(w.expected, m.expected, v.expected, pool.wide(gradient), options);
    }
    expect_close(m.actual, m.expected, 12, 0.5, label("m", n));
    expect_close(v.actual, v.expected, 12, 0.25, label("v", n));
    expect_close(w.actual, w.expected, 12, 1.5, label("w", n));
  }
}

TEST_P(Updates, AdamWOfNoGradientIsNotNaN) {
  const Tensor w = exacts({33}), before = pool.as(exact, w), m = pool.make(exact, {33}), v = pool.make(exact, {33});
  backend->adamw(w, m, v, pool.make(exact, {33}), {0.01, 0.9, 0.95, 1e-8, 0, 0.1, 0.05, 1});
  expect_same_bits(w, before, "a weight without gradient and decay stays");
}

TEST_P(Updates, Sgd) {
  for (int64_t n : {0, 1, 17, 63, 64, 65, 1000}) {
    const Pair w(pool, exacts({n})), momentum(pool, exacts({n})), plain(pool, exacts({n}));
    for (int step = 0; step < 3; ++step) {
      const Tensor gradient = exacts({n});
      backend->sgd(w.actual, momentum.actual, gradient, {0.1, 0.9, 0.01, 0.5});
      reference->sgd(w.expected, momentum.expected, pool.wide(gradient), {0.1, 0.9, 0.01, 0.5});
      backend->sgd(plain.actual, Tensor(), gradient, {0.1, 0, 0, 1});
      reference->sgd(plain.expected, Tensor(), pool.wide(gradient), {0.1, 0, 0, 1});
    }
    expect_close(momentum.actual, momentum.expected, 12, 2.5, label("momentum", n));
    expect_close(w.actual, w.expected, 12, 1.8, label("w", n));
    expect_close(plain.actual, plain.expected, 12, 1.3, label("w without momentum", n));
  }
}

}  // namespace
}  // namespace switchyard
