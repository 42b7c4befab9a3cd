// Every operation of a backend against the reference. The inputs have the dtypes of the backend's case; the reference
// gets the same numbers widened to F64, so that its own roundings do not count. Instantiated for each backend and dtype.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/kernels/backend_case.h"
#include "tests/kernels/compare.h"

namespace switchyard {

class BackendTest : public testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    if (backend == nullptr) GTEST_SKIP() << "this machine has no device for " << GetParam().name;
  }

  // Numbers in the dtype of the activations, and in the exact dtype.
  Tensor activations(Shape shape, double low = -1, double high = 1) { return pool.uniform(activation, shape, low, high); }
  Tensor exacts(Shape shape, double low = -1, double high = 1) { return pool.uniform(exact, shape, low, high); }
  // A target's tensor with numbers in it: what an operation that overwrites must not read, and one that adds must keep.
  Tensor target(Dtype dtype, Shape shape) { return pool.uniform(dtype, shape, 0.5, 1.5); }
  Tensor integers(Shape shape) { return pool.filled(Dtype::kI32, shape, 77); }
  std::string label(const std::string& text, int64_t a, int64_t b = -1, int64_t c = -1) const {
    std::string result = text + " [" + std::to_string(a);
    if (b >= 0) result += ", " + std::to_string(b);
    if (c >= 0) result += ", " + std::to_string(c);
    return result + "]";
  }

  const Dtype activation = GetParam().activation;
  const Dtype exact = Dtype::kF32;
  std::unique_ptr<Backend> backend = GetParam().make();
  std::unique_ptr<Backend> reference = make_reference_backend();
  Pool pool;
};

// A target beside the F64 one that the reference writes, both with the same numbers in them.
struct Pair {
  Tensor actual, expected;
  Pair(Pool& pool, const Tensor& tensor) : actual(tensor), expected(pool.wide(tensor)) {}
};

inline constexpr int64_t kOddExtents[] = {1, 3, 17, 33, 63, 65, 130};

}  // namespace switchyard
