#include <cmath>
#include <limits>

#include "tests/kernels/backend_fixture.h"

namespace switchyard {
namespace {

class Elementwise : public BackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Elementwise, testing::ValuesIn(backend_cases()), case_name);

const Random kRandom(11, Purpose::kEmbeddingDropout, 2, 40, (uint64_t{3} << 32) - 5);  // the rows cross 2^32

TEST_P(Elementwise, ZeroClearsRowsAndNothingElse) {
  for (Dtype dtype : {Dtype::kF64, Dtype::kF32, Dtype::kBF16, Dtype::kI32}) {
    const Tensor dense = pool.filled(dtype, {3, 17}, 5);
    backend->zero(Out(dense.slice_rows(1, 1)));
    for (int64_t c = 0; c < 17; ++c) {
      EXPECT_EQ(at(dense, 0, c), 5);
      EXPECT_EQ(at(dense, 1, c), 0);
      EXPECT_EQ(at(dense, 2, c), 5);
    }
    backend->zero(Out(pool.make(dtype, {0, 4})));
  }
  const Tensor strided = pool.uniform_strided(activation, 5, 33);
  backend->zero(Out(strided));
  EXPECT_EQ(inner_product(strided, strided), 0);
  pool.expect_gaps_untouched();
}

TEST_P(Elementwise, CopiesToTheHostAndBackKeepBits) {
  const Tensor x = activations({7, 33}), y = pool.make(activation, {7, 33}), host = pool.make(activation, {7, 33});
  backend->copy_to_host(x, host.data());
  expect_same_bits(host, x, "copy_to_host");
  backend->copy_from_host(host.data(), Out(y));
  expect_same_bits(y, x, "copy_from_host");
}

TEST_P(Elementwise, ConvertsAllPairsToTheSameBits) {
  for (Dtype to : {Dtype::kF64, Dtype::kF32, Dtype::kBF16}) {
    for (Dtype from : {Dtype::kF64, Dtype::kF32, Dtype::kBF16}) {
      for (int64_t columns : kOddExtents) {
        const Tensor x = pool.uniform(from, {3, columns}, -100, 100), y = target(to, {3, columns}), expected = pool.make(to, {3, columns});
        backend->convert(Out(y), x);
        reference->convert(Out(expected), x);
        expect_same_bits(y, expected, std::string(name(from)) + " to " + name(to));
      }
    }
  }
  backend->convert(Out(pool.make(Dtype::kF32, {0, 5})), pool.make(Dtype::kBF16, {0, 5}));
}

TEST_P(Elementwise, ConvertsWithAddition) {
  for (Dtype to : {Dtype::kF64, Dtype::kF32, Dtype::kBF16}) {
    for (Dtype from : {Dtype::kF64, Dtype::kF32, Dtype::kBF16}) {
      const Tensor x = pool.uniform(from, {5, 65});
      const Pair y(pool, target(to, {5, 65}));

      backend->convert(Accumulate(y.actual), x);
      reference->convert(Accumulate(y.expected), pool.wide(x));
      expect_close(y.actual, y.expected, 1, 2.5, std::string(name(to)) + " += " + name(from));
    }
  }
}

TEST_P(Elementwise, ConvertsWhatIsNotAnOrdinaryNumber) {
  const float infinity = std::numeric_limits<float>::infinity(), largest = std::numeric_limits<float>::max();
  const Tensor x = pool.of(Dtype::kF32, {2, 9},
                           {0.0, -0.0, infinity, -infinity, largest, -largest, 1e-45, 0x1p-134, 0x1.8p-133, 1 + 0x1p-8, 1 + 3 * 0x1p-8, -1 - 0x1p-8, 0x1p-126,
                            255, 256, 257, 3, -7});
  const Tensor y = pool.make(Dtype::kBF16, {2, 9}), expected = pool.make(Dtype::kBF16, {2, 9});
  backend->convert(Out(y), x);
  reference->convert(Out(expected), x);
  expect_same_bits(y, expected, "F32 to BF16");
  // NaN with its payload in the cut half must not become infinity; 33 of them, so that vectors and tails meet it.
  const Tensor nan = pool.make(Dtype::kF32, {33}), rounded = pool.make(Dtype::kBF16, {33});
  for (int64_t i = 0; i < 33; ++i) nan.get<float>()[i] = std::bit_cast<float>(0x7f800001u);
  backend->convert(Out(rounded), nan);
  for (int64_t i = 0; i < 33; ++i) EXPECT_TRUE(std::isnan(at(rounded, i))) << "element " << i;
}

TEST_P(Elementwise, DropoutHasTheReferencesBits) {
  for (int64_t columns : kOddExtents) {
    for (double rate : {0.0, 0.1, 0.5, 0.99}) {
      const Tensor x = activations({5, columns}, 0.5, 2), y = pool.make(activation, {5, columns});
      const Tensor wide = pool.as(Dtype::kF32, x), dropped = pool.make(Dtype::kF32, {5, columns}), expected = pool.make(activation, {5, columns});
      backend->dropout(Out(y), x, {rate, kRandom});
      reference->dropout(Out(dropped), wide, {rate, kRandom});
      reference->convert(Out(expected), dropped);
      expect_same_bits(y, expected, label("dropout", 5, columns));
      backend->dropout(Out(x), x, {rate, kRandom});
      expect_same_bits(x, expected, label("dropout in place", 5, columns));
    }
  }
}

TEST_P(Elementwise, DropoutCountsElementsThroughAllButTheFirstExtent) {
  const Tensor x = activations({3, 5, 7}, 0.5, 2), y = pool.make(activation, {3, 5, 7}), flat = pool.make(activation, {3, 35});
  backend->dropout(Out(y), x, {0.5, kRandom});
  backend->dropout(Out(flat), x.reshape({3, 35}), {0.5, kRandom});
  expect_same_bits(y.reshape({3, 35}), flat, "rows of three extents");
}

TEST_P(Elementwise, AddsWithDropout) {
  for (int64_t columns : kOddExtents) {
    for (double rate : {0.0, 0.3}) {
      const Dropout dropout{rate, kRandom};
      const Tensor a = activations({4, columns}), b = activations({4, columns}, 0.5, 2), y = pool.make(activation, {4, columns});
      const Tensor expected = pool.make(Dtype::kF64, {4, columns});
      reference->add(Out(expected), pool.wide(a), pool.wide(b), dropout);
      const Tensor on_a = pool.as(activation, a), on_b = pool.as(activation, b);
      backend->add(Out(y), a, b, dropout);
      backend->add(Out(on_a), on_a, b, dropout);
      backend->add(Out(on_b), a, on_b, dropout);
      expect_close(y, expected, 3, 4, label("add", 4, columns));
      expect_same_bits(on_a, y, "add in place on a");
      expect_same_bits(on_b, y, "add in place on b");
    }
  }
  backend->add(Out(pool.make(activation, {0, 8})), activations({0, 8}), activations({0, 8}), {});
}

TEST_P(Elementwise, JitterHasTheReferencesBits) {
  for (int64_t columns : kOddExtents) {
    for (double epsilon : {0.0, 0.01, 0.3}) {
      for (Dtype from : {exact, activation}) {
        const Tensor x = pool.uniform(from, {5, columns}, -2, 2), y = target(exact, {5, columns}), expected = pool.make(exact, {5, columns});
        backend->jitter(Out(y), x, epsilon, kRandom);
        reference->jitter(Out(expected), pool.as(exact, x), epsilon, kRandom);
        expect_same_bits(y, expected, label("jitter", 5, columns));
      }
    }
  }
}

TEST_P(Elementwise, JitterAdds) {
  const Tensor x = exacts({9, 130});
  const Pair y(pool, target(exact, {9, 130}));
  backend->jitter(Accumulate(y.actual), x, 0.1, kRandom);
  reference->jitter(Accumulate(y.expected), pool.wide(x), 0.1, kRandom);
  expect_close(y.actual, y.expected, 4, 2.6, "y += jitter(x)");
}

class Sums : public BackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Sums, testing::ValuesIn(backend_cases()), case_name);

TEST_P(Sums, SumInF64) {
  for (Dtype dtype : {Dtype::kF64, Dtype::kF32, Dtype::kBF16}) {
    for (int64_t n : {0, 1, 3, 63, 64, 65, 130, 1000, 70001}) {
      const Tensor x = pool.uniform(dtype, {n});
      const Pair total(pool, pool.of(Dtype::kF64, {1}, {3})), squares(pool, pool.of(Dtype::kF64, {1}, {3}));
      backend->sum(Accumulate(total.actual), x);
      reference->sum(Accumulate(total.expected), x);
      expect_close(total.actual, total.expected, sum_units(n), 3 + static_cast<double>(n), label("sum", n));
      backend->sum_of_squares(Out(squares.actual), x);
      reference->sum_of_squares(Out(squares.expected), x);
      expect_close(squares.actual, squares.expected, sum_units(n), static_cast<double>(n), label("sum_of_squares", n));
    }
  }
}

TEST_P(Sums, SumOfSquaresDoesNotOverflowF32) {
  const Tensor x = pool.filled(activation, {100}, 0x1p100), total = pool.make(Dtype::kF64, {1});
  backend->sum_of_squares(Out(total), x);
  EXPECT_EQ(at(total, 0), 100 * 0x1p200);
}

TEST_P(Sums, SumRows) {
  for (int64_t n : {0, 1, 17, 130, 700}) {
    for (int64_t columns : kOddExtents) {
      for (bool add : {false, true}) {
        const Tensor x = activations({n, columns});
        const Pair y(pool, target(exact, {columns}));
        const Tensor size = pool.wide(y.actual);
        backend->sum_rows({y.actual, add}, x);
        reference->sum_rows({y.expected, add}, pool.wide(x));
        reference->sum_rows({size, add}, pool.magnitude(x));
        expect_close(y.actual, y.expected, sum_units(n), size, label("sum_rows", n, columns));
      }
    }
  }
}

}  // namespace
}  // namespace switchyard
