// Products on the device: a row's bits are its own, whatever is beside it, wherever it lies, and however rows are cut.
#include "kernels/cuda/matmul.h"

#include <device/schedules.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda/device.h"
#include "tests/cuda/mirror.h"
#include "tests/kernels/compare.h"

namespace switchyard::cuda {
namespace {

constexpr int64_t kRows = 300;

struct Case {
  const char* name;
  Dtype dtype;
  Side side;
  int64_t inner, columns;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// Extents that the library takes as they are, and odd ones, each summed long enough that orders of summation differ.
constexpr Case kCases[] = {{"F32_forward", Dtype::kF32, Side::kForward, 128, 40},       {"F32_backward", Dtype::kF32, Side::kBackward, 128, 40},
                           {"F32_forward_odd", Dtype::kF32, Side::kForward, 131, 33},   {"F32_backward_odd", Dtype::kF32, Side::kBackward, 131, 33},
                           {"BF16_forward", Dtype::kBF16, Side::kForward, 128, 40},     {"BF16_backward", Dtype::kBF16, Side::kBackward, 128, 40},
                           {"BF16_forward_odd", Dtype::kBF16, Side::kForward, 131, 33}, {"BF16_backward_odd", Dtype::kBF16, Side::kBackward, 131, 36}};

size_t free_bytes() {
  size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  return free;
}

template <class Param>
class OnDevice : public testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    if (backend == nullptr) GTEST_SKIP() << "this machine has no GPU";
  }
  PackedMatrix pack(Dtype dtype, int64_t out, int64_t in, Side side) {
    PackedMatrix packed;
    packed.storage = pool.make(Dtype::kI32, {backend->packed_bytes(dtype, out, in, side) / 4});
    packed.dtype = dtype;
    packed.out = out;
    packed.in = in;
    packed.side = side;
    backend->pack(packed, pool.uniform(Dtype::kF32, {out, in}));
    return packed;
  }
  PackedMatrix pack(const Case& c) { return c.side == Side::kForward ? pack(c.dtype, c.columns, c.inner, c.side) : pack(c.dtype, c.inner, c.columns, c.side); }
  // y, dense.
  Tensor product(const PackedMatrix& w, const Tensor& x, Dtype to) {
    const Product p{x, &w, Out(pool.make(to, {x.rows(), w.columns()}))};
    backend->multiply({&p, 1});
    return p.y.tensor;
  }

  Pool pool;
  const std::shared_ptr<Backend> backend = device_is_usable() ? std::make_shared<Mirror>(make_device_backend()) : nullptr;
};

class RowsOfProducts : public OnDevice<Case> {};
INSTANTIATE_TEST_SUITE_P(Cuda, RowsOfProducts, testing::ValuesIn(kCases), [](const auto& c) { return std::string(c.param.name); });

TEST_P(RowsOfProducts, KeepTheirBitsBesideAnyOthers) {
  const PackedMatrix w = pack(GetParam());
  const Tensor x = pool.uniform(GetParam().dtype, {kRows, GetParam().inner});
  for (const Dtype to : {GetParam().dtype, Dtype::kF32}) {
    const Tensor all = product(w, x, to);
    for (const int64_t n : {1, 2, 16, 255, 256}) {
      for (const int64_t first : {int64_t{0}, int64_t{1}, kRows - n}) {
        if (first + n > kRows) continue;
        expect_same_bits(product(w, x.slice_rows(first, n), to), all.slice_rows(first, n), std::to_string(n) + " rows from row " + std::to_string(first));
      }
    }
  }
}

TEST_P(RowsOfProducts, KeepTheirBitsWhereverTheyLie) {
  const auto [name, dtype, side, inner, columns] = GetParam();
  const PackedMatrix w = pack(GetParam());
  // Steps of 16 bytes and others, from addresses that are multiples of 16 bytes and from others.
  for (const int64_t step : {int64_t{160}, int64_t{141}}) {
    for (const int64_t shift : {0, 1, 8}) {
      const auto strided = [&](int64_t width) { return pool.uniform(dtype, {20, step}).slice_columns(shift, width); };
      Product products[] = {{strided(inner), &w, Out(strided(columns))}, {strided(inner), &w, Out(strided(columns))}};
      products[1].relu_of = strided(columns);
      for (const Product& lying : products) {
        Product dense = lying;
        dense.x = pool.as(dtype, lying.x);
        dense.y.tensor = pool.make(dtype, {20, columns});
        dense.relu_of = pool.as(dtype, lying.relu_of);
        const Product both[] = {lying, dense};
        backend->multiply(both);
        expect_same_bits(pool.as(dtype, lying.y.tensor), dense.y.tensor, "rows " + std::to_string(step) + " apart, from element " + std::to_string(shift));
      }
    }
  }
}

TEST_P(RowsOfProducts, KeepTheirBitsUnderEverySchedule) {
  const PackedMatrix w = pack(GetParam());
  const Tensor x = pool.uniform(GetParam().dtype, {17, GetParam().inner}), bias = pool.uniform(Dtype::kF32, {GetParam().columns});
  same_under_every_schedule([&] {
    // The second product's operands take the workspace of the first.
    Product products[] = {{x, &w, Out(pool.make(GetParam().dtype, {17, GetParam().columns})), bias, true},
                          {x.slice_rows(3, 14), &w, Out(pool.make(Dtype::kF32, {14, GetParam().columns}))}};
    products[0].dropout = {0.25, Random(1, Purpose::kHiddenDropout, 0, 1, 10)};
    backend->multiply(products);
    std::string bytes;
    for (const Product& p : products) bytes.append(static_cast<const char*>(p.y.tensor.data()), static_cast<size_t>(p.y.tensor.bytes()));
    return bytes;
  });
}

class ProductsOnDevice : public OnDevice<Dtype> {};
INSTANTIATE_TEST_SUITE_P(Cuda, ProductsOnDevice, testing::Values(Dtype::kF32, Dtype::kBF16), [](const auto& c) { return std::string(name(c.param)); });

// So many rows that the workspace holds a part of them at a time.
TEST_P(ProductsOnDevice, WorkThroughTheWorkspaceInParts) {
  constexpr int64_t kWide = 4097, kInner = 3;
  const int64_t part = rows_at_a_time(padded(kWide, GetParam()) * 4 + padded(kInner, GetParam()) * size_of(GetParam())), n = 2 * part + 3;
  const PackedMatrix w = pack(GetParam(), kWide, kInner, Side::kForward);
  Product whole{pool.uniform(GetParam(), {n, kInner}), &w, Out(pool.make(GetParam(), {n, kWide})), pool.uniform(Dtype::kF32, {kWide})};
  whole.dropout = {0.5, Random(1, Purpose::kHiddenDropout, 0, 1, 10)};
  whole.relu_of = pool.uniform(GetParam(), {n, kWide});
  product(w, whole.x.slice_rows(0, 1), GetParam());  // what the library takes for itself is taken
  const size_t before = free_bytes();
  backend->multiply({&whole, 1});
  EXPECT_LT(before - free_bytes(), size_t{64} << 20) << "the workspace must not grow with the number of rows";
  for (const int64_t first : {int64_t{0}, part - 2, 2 * part - 2}) {
    Product few = whole;
    few.x = whole.x.slice_rows(first, 5);
    few.relu_of = whole.relu_of.slice_rows(first, 5);
    few.dropout.random.first_index += static_cast<uint64_t>(first);
    few.y.tensor = pool.make(GetParam(), {5, kWide});
    backend->multiply({&few, 1});
    expect_same_bits(few.y.tensor, whole.y.tensor.slice_rows(first, 5), "rows from " + std::to_string(first) + ", parts of " + std::to_string(part));
  }
}

TEST_P(ProductsOnDevice, OfVeryManyRowsAreCut) {
  const PackedMatrix w = pack(GetParam(), 8, 8, Side::kForward);
  const Tensor x = pool.uniform(GetParam(), {kMostRows + 5, 8}), y = product(w, x, GetParam());
  expect_same_bits(product(w, x.slice_rows(kMostRows - 5, 10), GetParam()), y.slice_rows(kMostRows - 5, 10), "rows at the cut");
}

TEST_P(ProductsOnDevice, ReluKeepsWhatIsNoNumber) {
  const PackedMatrix w = pack(GetParam(), 5, 3, Side::kForward);
  Product p{pool.filled(GetParam(), {2, 3}, std::numeric_limits<double>::quiet_NaN()), &w, Out(pool.make(GetParam(), {2, 5}))};
  p.relu = true;
  backend->multiply({&p, 1});
  for (int64_t column = 0; column < 5; ++column) EXPECT_TRUE(std::isnan(at(p.y.tensor, 1, column))) << "an error of the model would go unseen";
}

TEST_P(ProductsOnDevice, APackedMatrixIsRoundedRowsWithZerosAround) {
  const PackedMatrix w = pack(GetParam(), 3, 5, Side::kBackward);
  EXPECT_EQ(backend->packed_bytes(GetParam(), 8, 16, Side::kForward), 8 * 16 * size_of(GetParam())) << "where nothing is odd, nothing is added";
  ASSERT_EQ(w.storage.bytes(), padded(3, GetParam()) * padded(5, GetParam()) * size_of(GetParam()));
  const Tensor rows(w.storage.data(), GetParam(), {padded(3, GetParam()), padded(5, GetParam())});
  for (int64_t row = 0; row < rows.rows(); ++row) {
    for (int64_t column = 0; column < rows.columns(); ++column) EXPECT_EQ(at(rows, row, column) != 0, row < 3 && column < 5) << row << ", " << column;
  }
}

// What an expert's lanes give: dw joined by each in turn.
struct Lane {
  Tensor dy, x;
};

class OuterProductsOnDevice : public ProductsOnDevice {
 protected:
  std::vector<Lane> lanes(int64_t out, int64_t in) {
    std::vector<Lane> all;
    for (const int64_t n : {40, 0, 150, 7}) all.push_back({pool.uniform(GetParam(), {n, out}), pool.uniform(GetParam(), {n, in})});
    return all;
  }
  // In one call, or in a call for each.
  Tensor joined(const std::vector<Lane>& lanes, bool one_call) {
    const Tensor dw = pool.filled(Dtype::kF32, {lanes[0].dy.columns(), lanes[0].x.columns()}, 99);
    std::vector<OuterProduct> entries;
    for (const Lane& lane : lanes) entries.push_back({lane.dy, lane.x, {dw, !entries.empty()}});
    if (one_call) backend->multiply_outer(entries);
    for (size_t i = 0; !one_call && i < entries.size(); ++i) backend->multiply_outer({&entries[i], 1});
    return dw;
  }
};
INSTANTIATE_TEST_SUITE_P(Cuda, OuterProductsOnDevice, testing::Values(Dtype::kF32, Dtype::kBF16), [](const auto& c) { return std::string(name(c.param)); });

TEST_P(OuterProductsOnDevice, JoinTheirTargetInListOrder) {
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{24, 40}, {17, 33}, {24, 33}, {24, 36}, {17, 40}}) {
    std::vector<Lane> all = lanes(out, in);
    const Tensor together = joined(all, true);
    expect_same_bits(together, joined(all, false), "one call, and a call for each");
    std::swap(all[0], all[3]);
    const Tensor turned = joined(all, true);
    EXPECT_NE(std::memcmp(together.data(), turned.data(), static_cast<size_t>(together.bytes())), 0) << "the order must be seen in the bits";
    expect_close(together, pool.wide(turned), sum_units(200), 200, "another order");
  }
}

TEST_P(OuterProductsOnDevice, AnEmptyFirstEntryOverwrites) {
  std::vector<Lane> all = lanes(17, 33), rest = {all[2]};
  expect_same_bits(joined({all[1], all[2]}, true), joined(rest, true), "no rows, then some");
  EXPECT_EQ(inner_product(pool.wide(joined({all[1]}, true)), pool.filled(Dtype::kF64, {17, 33}, 1)), 0);
}

TEST_P(OuterProductsOnDevice, KeepTheirBitsWhereverOperandsLie) {
  const int64_t out = 24, in = 40;
  for (const int64_t step : {int64_t{64}, int64_t{61}}) {
    for (const int64_t shift : {0, 1, 8}) {
      const Tensor dy = pool.uniform(GetParam(), {70, step}).slice_columns(shift, out), x = pool.uniform(GetParam(), {70, step}).slice_columns(shift, in);
      const Tensor dense_dy = pool.as(GetParam(), dy), dense_x = pool.as(GetParam(), x);
      const Tensor dw = pool.filled(Dtype::kF32, {out, in}, 1), room = pool.filled(Dtype::kF32, {out * in + 1}, 1);
      const Tensor shifted(room.get<float>() + 1, Dtype::kF32, {out, in});
      const OuterProduct products[] = {{dense_dy, dense_x, Accumulate(dw)}, {dy, x, Accumulate(shifted)}};
      backend->multiply_outer(products);
      expect_same_bits(shifted, dw, "rows " + std::to_string(step) + " apart, from element " + std::to_string(shift));
    }
  }
}

TEST_P(OuterProductsOnDevice, OfOddExtentsMeetInParts) {
  constexpr int64_t kOut = 3, kIn = 4097;
  const int64_t part = rows_at_a_time((padded(kOut, GetParam()) + padded(kIn, GetParam())) * size_of(GetParam())), n = part + 100;
  const Tensor dy = pool.uniform(GetParam(), {n, kOut}), x = pool.uniform(GetParam(), {n, kIn});
  const Lane first{dy.slice_rows(0, part), x.slice_rows(0, part)}, second{dy.slice_rows(part, 100), x.slice_rows(part, 100)};
  expect_same_bits(joined({{dy, x}}, true), joined({first, second}, true), "rows in one entry and in two, cut after " + std::to_string(part));
}

}  // namespace
}  // namespace switchyard::cuda
