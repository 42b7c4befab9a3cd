#include <array>

#include "tests/kernels/backend_fixture.h"

namespace switchyard {
namespace {

struct Extents {
  int64_t n, inner, columns;
};
constexpr Extents kExtents[] = {{1, 1, 1},     {3, 17, 33},  {17, 33, 63},  {33, 63, 65},  {63, 65, 130},  {65, 130, 17},  {130, 3, 1}, {1, 130, 3},
                                {33, 256, 64}, {16, 64, 64}, {5, 1000, 40}, {300, 40, 24}, {33, 3072, 40}, {4100, 33, 17}, {0, 33, 17}};

class Matmul : public BackendTest {
 protected:
  // The matrix that `side` multiplies by, packed by the backend and by the reference from the same numbers.
  struct Matrices {
    PackedMatrix actual, expected, magnitude;
  };
  PackedMatrix pack(Backend& b, Dtype dtype, const Tensor& w, Side side) {
    PackedMatrix packed;
    const int64_t words = (b.packed_bytes(dtype, w.rows(), w.columns(), side) + 3) / 4;
    packed.storage = pool.filled(Dtype::kI32, {words}, 0x7fffffff);
    packed.dtype = dtype;
    packed.out = w.rows();
    packed.in = w.columns();
    packed.side = side;
    b.pack(packed, w);
    return packed;
  }
  Matrices matrices(const Extents& e, Side side, Dtype from) {
    const Shape shape = side == Side::kForward ? Shape{e.columns, e.inner} : Shape{e.inner, e.columns};
    const Tensor w = pool.uniform(from, shape), rounded = pool.as(activation, w);
    return {pack(*backend, activation, w, side), pack(*reference, Dtype::kF64, pool.wide(rounded), side),
            pack(*reference, Dtype::kF64, pool.magnitude(rounded), side)};
  }

  // Runs the product on the backend, the reference, and the reference with every number replaced by its magnitude.
  void compare(const Product& product, const Matrices& m, const std::string& what) {
    Product actual = product, expected = product, magnitude = product;
    actual.matrix = &m.actual;
    expected.matrix = &m.expected;
    magnitude.matrix = &m.magnitude;
    expected.x = pool.wide(product.x);
    expected.y.tensor = pool.wide(product.y.tensor);
    expected.bias = pool.as(Dtype::kF64, product.bias);
    expected.relu_of = pool.as(Dtype::kF64, product.relu_of);
    magnitude.x = pool.magnitude(product.x);
    magnitude.y.tensor = pool.magnitude(product.y.tensor);
    magnitude.bias = pool.magnitude(product.bias);
    magnitude.relu_of = expected.relu_of;
    backend->multiply({&actual, 1});
    reference->multiply({&expected, 1});
    reference->multiply({&magnitude, 1});
    expect_close(product.y.tensor, expected.y.tensor, sum_units(m.actual.inner()), magnitude.y.tensor, what);
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, Matmul, testing::ValuesIn(backend_cases()), case_name);

TEST_P(Matmul, BothSidesOfEveryShape) {
  for (Side side : {Side::kForward, Side::kBackward}) {
    for (const Extents& e : kExtents) {
      const Matrices m = matrices(e, side, exact);
      for (Dtype to : {activation, exact}) {
        for (bool add : {false, true}) {
          const Product product{activations({e.n, e.inner}), nullptr, {target(to, {e.n, e.columns}), add}};
          compare(product, m, label(side == Side::kForward ? "x W'" : "x W", e.n, e.inner, e.columns));
        }
      }
    }
  }
}

TEST_P(Matmul, PacksWhatIsAlreadyRounded) {
  const Extents e{20, 65, 33};
  const Matrices m = matrices(e, Side::kForward, activation);
  compare({activations({e.n, e.inner}), nullptr, Out(target(activation, {e.n, e.columns}))}, m, "packed from the activations' dtype");
}

TEST_P(Matmul, StridedRows) {
  for (Side side : {Side::kForward, Side::kBackward}) {
    for (const Extents& e : {Extents{33, 17, 65}, Extents{65, 64, 64}}) {
      const Matrices m = matrices(e, side, exact);
      for (Dtype to : {activation, exact}) {
        for (bool add : {false, true}) {
          const Tensor x = pool.uniform_strided(activation, e.n, e.inner), y = pool.uniform_strided(to, e.n, e.columns);
          compare({x, nullptr, {y, add}}, m, label("strided", e.n, e.inner, e.columns));
        }
      }
    }
  }
  pool.expect_gaps_untouched();
}

TEST_P(Matmul, EveryCombinationOfEpilogues) {
  const Dropout dropout{0.4, Random(7, Purpose::kExpertDropout, 1, 2, expert_index(1, 0, 3, 0))};
  for (const Extents& e : {Extents{17, 33, 65}, Extents{33, 64, 64}, Extents{300, 24, 130}}) {
    const Matrices m = matrices(e, Side::kForward, exact);
    for (int bits = 0; bits < 32; ++bits) {
      Product product{activations({e.n, e.inner}), nullptr, {target((bits & 16) != 0 ? exact : activation, {e.n, e.columns}), bits % 3 == 0}};
      if ((bits & 1) != 0) product.bias = exacts({e.columns});
      product.relu = (bits & 2) != 0;
      if ((bits & 4) != 0) product.dropout = dropout;
      if ((bits & 8) != 0) {
        product.relu_of = activations({e.n, e.columns});
        product.relu_of_scale = 1.25;
      }
      compare(product, m, label("epilogues " + std::to_string(bits), e.n, e.inner, e.columns));
    }
  }
}

TEST_P(Matmul, DropoutHasTheReferencesMask) {
  const Extents e{130, 17, 65};
  const Dropout dropout{0.4, Random(7, Purpose::kHiddenDropout, 1, 2, 1000)};
  const Matrices m = matrices(e, Side::kForward, exact);
  const Tensor y = pool.make(activation, {e.n, e.columns}), expected = pool.make(Dtype::kF32, {e.n, e.columns});
  Product product{pool.filled(activation, {e.n, e.inner}, 0), &m.actual, Out(y), pool.filled(exact, {e.columns}, 1), true, dropout};
  backend->multiply({&product, 1});
  reference->dropout(Out(expected), pool.filled(Dtype::kF32, {e.n, e.columns}, 1), dropout);
  for (int64_t r = 0; r < e.n; ++r) {
    for (int64_t c = 0; c < e.columns; ++c) ASSERT_EQ(at(y, r, c) == 0, at(expected, r, c) == 0) << "row " << r << ", column " << c;
  }
}

TEST_P(Matmul, ReluOfIsOpenOnlyAboveZero) {
  const Matrices m = matrices({2, 3, 4}, Side::kForward, exact);
  const Tensor y = target(activation, {2, 4});
  Product product{pool.filled(activation, {2, 3}, 1), &m.actual, Out(y), pool.filled(exact, {4}, 100)};
  product.relu_of = pool.of(activation, {2, 4}, {0, -0.0, -1, 2, 0, 1e-30, -1e-30, 0});
  backend->multiply({&product, 1});
  for (int64_t r = 0; r < 2; ++r) {
    for (int64_t c = 0; c < 4; ++c) EXPECT_EQ(at(y, r, c) != 0, at(product.relu_of, r, c) > 0) << "row " << r << ", column " << c;
  }
}

TEST_P(Matmul, ManyProductsInOneCall) {
  constexpr std::array<Extents, 5> kMany = {Extents{40, 33, 17}, {0, 33, 17}, {3, 33, 17}, {65, 64, 130}, {1, 7, 9}};
  std::vector<Matrices> m;
  for (const Extents& e : kMany) m.push_back(matrices(e, Side::kForward, exact));
  std::vector<Product> together;
  std::vector<Tensor> alone;
  for (size_t i = 0; i < kMany.size(); ++i) {
    const Extents& e = kMany[i];
    together.push_back({activations({e.n, e.inner}), &m[i].actual, Out(target(activation, {e.n, e.columns}))});
    Product single = together.back();
    single.y.tensor = target(activation, {e.n, e.columns});
    backend->multiply({&single, 1});
    alone.push_back(single.y.tensor);
  }
  backend->multiply(together);
  for (size_t i = 0; i < kMany.size(); ++i) expect_same_bits(together[i].y.tensor, alone[i], "product " + std::to_string(i) + " of one call");
  backend->multiply({});
}

TEST_P(Matmul, OuterProducts) {
  for (const Extents& e : kExtents) {  // n rows, out = inner, in = columns
    for (bool add : {false, true}) {
      const Tensor dy = activations({e.n, e.inner}), x = activations({e.n, e.columns});
      const Pair dw(pool, target(exact, {e.inner, e.columns}));
      const Tensor size = pool.wide(dw.actual);
      const OuterProduct actual{dy, x, {dw.actual, add}};
      const OuterProduct expected[] = {{pool.wide(dy), pool.wide(x), {dw.expected, add}}, {pool.magnitude(dy), pool.magnitude(x), {size, add}}};
      backend->multiply_outer({&actual, 1});
      reference->multiply_outer(expected);
      expect_close(dw.actual, dw.expected, sum_units(e.n), size, label("dy' x", e.n, e.inner, e.columns));
    }
  }
}

// Lanes of an expert: they share dw and join it in order; one of them is empty, and the first overwrites.
TEST_P(Matmul, OuterProductsThatShareTheirTarget) {
  const Tensor dw = target(exact, {33, 65}), expected = pool.wide(dw), size = pool.wide(dw), other = target(exact, {17, 3});
  const Pair other_dw(pool, other);
  std::vector<OuterProduct> actual, wide, sizes;
  for (int64_t n : {20, 0, 1, 70}) {
    const Tensor dy = pool.uniform_strided(activation, n, 33), x = pool.uniform_strided(activation, n, 65);
    const bool add = !actual.empty();
    actual.push_back({dy, x, {dw, add}});
    wide.push_back({pool.wide(dy), pool.wide(x), {expected, add}});
    sizes.push_back({pool.magnitude(dy), pool.magnitude(x), {size, add}});
    if (n != 20) continue;
    const Tensor dy2 = activations({n, 17}), x2 = activations({n, 3});
    actual.push_back({dy2, x2, Out(other)});
    wide.push_back({pool.wide(dy2), pool.wide(x2), Out(other_dw.expected)});
  }
  backend->multiply_outer(actual);
  reference->multiply_outer(wide);
  reference->multiply_outer(sizes);
  expect_close(dw, expected, sum_units(91), size, "shared dw");
  expect_close(other, other_dw.expected, sum_units(20), 20, "dw between the lanes of another");
  backend->multiply_outer({});
}

TEST_P(Matmul, AnOuterProductOfNoRowsOverwritesWithZero) {
  const Tensor dw = target(exact, {5, 7});
  const OuterProduct empty{activations({0, 5}), activations({0, 7}), Out(dw)};
  backend->multiply_outer({&empty, 1});
  EXPECT_EQ(inner_product(dw, dw), 0);
}

}  // namespace
}  // namespace switchyard
