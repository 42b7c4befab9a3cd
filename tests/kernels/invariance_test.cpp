// What "the number of ranks and threads is not a hyper-parameter" asks of a backend: the bits of every result depend on
// the shapes and values of its call alone. Sizes are such that a backend has a reason to share out the work.
#include <gtest/gtest.h>

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
