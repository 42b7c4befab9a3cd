// Sums so long that every loop of theirs runs more than once.
#include <device/schedules.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/cuda/device.h"
#include "tests/cuda/mirror.h"
#include "tests/kernels/compare.h"

namespace switchyard::cuda {
namespace {

class SumsOnDevice : public testing::TestWithParam<Dtype> {
 protected:
  void SetUp() override {
    if (!device_is_usable()) GTEST_SKIP() << "this machine has no GPU";
    mirror = std::make_unique<Mirror>(make_device_backend());
  }

  std::unique_ptr<Mirror> mirror;
};
INSTANTIATE_TEST_SUITE_P(Cuda, SumsOnDevice, testing::Values(Dtype::kF32, Dtype::kBF16), [](const auto& c) { return name(c.param); });

// More pieces than a block has threads, and the last one short.
TEST_P(SumsOnDevice, OfManyElementsHaveOneOrder) {
  constexpr int64_t kElements = 257 * 4096 + 1235;
  const auto reference = make_reference_backend();
  Pool pool;
  const Tensor x = pool.uniform(GetParam(), {kElements}, -1, 2), expected = pool.make(Dtype::kF64, {2});
  reference->sum(Out(expected.slice_rows(0, 1)), x);
  reference->sum_of_squares(Out(expected.slice_rows(1, 1)), x);
  const std::vector<double> sums = same_under_every_schedule([&] {
    const Tensor actual = pool.of(Dtype::kF64, {2}, {3, 5});
    mirror->sum(Accumulate(actual.slice_rows(0, 1)), x);
    mirror->sum_of_squares(Out(actual.slice_rows(1, 1)), x);
    return std::vector<double>{at(actual, 0), at(actual, 1)};
  });
  EXPECT_NEAR(sums[0], at(expected, 0) + 3, 1e-9 * kElements);
  EXPECT_NEAR(sums[1], at(expected, 1), 1e-9 * kElements);
}

// Several tiles of rows and more columns than a block has at a time.
TEST_P(SumsOnDevice, OfManyRowsHaveOneOrder) {
  constexpr int64_t kRows = 800, kColumns = 301;
  const auto reference = make_reference_backend();
  Pool pool;
  const Tensor x = pool.uniform(GetParam(), {kRows, kColumns}), expected = pool.make(Dtype::kF64, {kColumns}), actual = pool.make(Dtype::kF32, {kColumns});
  reference->sum_rows(Out(expected), pool.wide(x));
  same_under_every_schedule([&] {
    mirror->sum_rows(Out(actual), x);
    return std::string(static_cast<const char*>(actual.data()), static_cast<size_t>(actual.bytes()));
  });
  expect_close(actual, expected, 1, 1, "sum_rows");
}

}  // namespace
}  // namespace switchyard::cuda
