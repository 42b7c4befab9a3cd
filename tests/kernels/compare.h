// Tensors for tests: made in a pool, filled with fixed pseudo-random numbers, and compared with sentences that say where.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/memory.h"

namespace switchyard {

// Unit roundoff: the largest relative error of one rounding to the nearest.
double unit_roundoff(Dtype dtype);

// Element (row, column) of a float or I32 tensor as a double, and back (rounded to the dtype).
double at(const Tensor& x, int64_t row, int64_t column = 0);
void set(const Tensor& x, int64_t row, int64_t column, double value);

// Owns the memory of a test's tensors. Two pools that are asked for the same things in the same order fill them with
// the same numbers.
class Pool {
 public:
  // `shift`: every contiguous tensor starts that many elements past an aligned address.
  explicit Pool(int64_t shift = 0) : shift_(shift) {}

  Tensor make(Dtype dtype, Shape shape);                       // zeros
  Tensor strided(Dtype dtype, int64_t rows, int64_t columns);  // zeros; what lies between the rows is NaN
  Tensor uniform(Dtype dtype, Shape shape, double low = -1, double high = 1);
  Tensor uniform_strided(Dtype dtype, int64_t rows, int64_t columns, double low = -1, double high = 1);
  Tensor integers(Shape shape, int64_t low, int64_t high);  // I32 in [low, high)
  Tensor of(Dtype dtype, Shape shape, const std::vector<double>& values);
  Tensor filled(Dtype dtype, Shape shape, double value);

  // A contiguous copy in another dtype; "none" stays none.
  Tensor as(Dtype dtype, const Tensor& x);
  Tensor wide(const Tensor& x) { return x.dtype() == Dtype::kI32 ? x : as(Dtype::kF64, x); }
  // |x| in F64.
  Tensor magnitude(const Tensor& x);

  // Fails the test if something was written between the rows of a strided tensor.
  void expect_gaps_untouched() const;

 private:
  Tensor random(const Tensor& x, double low, double high);

  int64_t shift_;
  uint64_t draws_ = 0;
  std::deque<Buffer> buffers_;
  std::vector<std::pair<Tensor, Tensor>> strided_;  // the whole, and the part that is the tensor
};

// Fails unless each element's error is at most
//   units * unit_roundoff(exact) * magnitude + unit_roundoff(dtype of actual) * |expected|,
// exact being F64 for F64 and F32 otherwise: `units` roundings of intermediate values as large as `magnitude` (F64,
// elementwise), and the rounding of the result.
void expect_close(const Tensor& actual, const Tensor& expected, double units, const Tensor& magnitude, const std::string& what);
void expect_close(const Tensor& actual, const Tensor& expected, double units, double magnitude, const std::string& what);
// Same dtype, shape and bytes.
void expect_same_bits(const Tensor& actual, const Tensor& expected, const std::string& what);

// Roundings of a sum of n terms: they add up like a random walk; 4 more for what is done with the sum.
double sum_units(int64_t n);

// Central differences of a scalar function with respect to every element of x (F64), step 1e-5.
Tensor numeric_gradient(Pool& pool, const Tensor& x, const std::function<double()>& loss);
// |a - b| / (|a| + |b|) in the 2-norm; 0 if both are 0.
double relative_difference(const Tensor& a, const Tensor& b);
// sum of a * b
double inner_product(const Tensor& a, const Tensor& b);

}  // namespace switchyard
