#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/kernels/compare.h"

namespace switchyard {
namespace {

constexpr int64_t kGapBefore = 1, kGapAfter = 4;  // elements beside each row of a strided tensor

std::string place(int64_t row, int64_t column) { return "[" + std::to_string(row) + ", " + std::to_string(column) + "]"; }

}  // namespace

double unit_roundoff(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF64: return 0x1p-53;
    case Dtype::kF32: return 0x1p-24;
    case Dtype::kBF16: return 0x1p-8;
    case Dtype::kI32: return 0;
  }
  return 0;
}

double at(const Tensor& x, int64_t row, int64_t column) {
  switch (x.dtype()) {
    case Dtype::kF64: return x.row<double>(row)[column];
    case Dtype::kF32: return static_cast<double>(x.row<float>(row)[column]);
    case Dtype::kBF16: return static_cast<double>(x.row<BFloat16>(row)[column]);
    case Dtype::kI32: return static_cast<double>(x.row<int32_t>(row)[column]);
  }
  return 0;
}

void set(const Tensor& x, int64_t row, int64_t column, double value) {
  switch (x.dtype()) {
    case Dtype::kF64: x.row<double>(row)[column] = value; break;
    case Dtype::kF32: x.row<float>(row)[column] = static_cast<float>(value); break;
    case Dtype::kBF16: x.row<BFloat16>(row)[column] = BFloat16(static_cast<float>(value)); break;
    case Dtype::kI32: x.row<int32_t>(row)[column] = static_cast<int32_t>(value); break;
  }
}

Tensor Pool::make(Dtype dtype, Shape shape) {
  buffers_.emplace_back((shape.elements() + shift_ + 1) * size_of(dtype));
  return Tensor(static_cast<char*>(buffers_.back().data()) + shift_ * size_of(dtype), dtype, shape);
}

Tensor Pool::strided(Dtype dtype, int64_t rows, int64_t columns) {
  const Tensor whole = filled(dtype, {rows, kGapBefore + columns + kGapAfter}, std::numeric_limits<double>::quiet_NaN());
  const Tensor part = whole.slice_columns(kGapBefore, columns);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) set(part, r, c, 0);
  }
  strided_.emplace_back(whole, part);
  return part;
}

Tensor Pool::random(const Tensor& x, double low, double high) {
  const Random random(20210111, Purpose::kInitialise, 0, 0, draws_++ << 32);
  for (int64_t r = 0; r < x.rows(); ++r) {
    Philox4 words{};
    for (int64_t c = 0; c < x.columns(); ++c) {
      if (c % 4 == 0) words = random.words(static_cast<uint64_t>(r), static_cast<uint32_t>(c / 4));
      const double value = low + (high - low) * static_cast<double>(words[static_cast<size_t>(c % 4)]) * 0x1p-32;
      set(x, r, c, x.dtype() == Dtype::kI32 ? std::floor(value) : value);
    }
  }
  return x;
}

Tensor Pool::uniform(Dtype dtype, Shape shape, double low, double high) { return random(make(dtype, shape), low, high); }

Tensor Pool::uniform_strided(Dtype dtype, int64_t rows, int64_t columns, double low, double high) { return random(strided(dtype, rows, columns), low, high); }

Tensor Pool::integers(Shape shape, int64_t low, int64_t high) { return random(make(Dtype::kI32, shape), static_cast<double>(low), static_cast<double>(high)); }

Tensor Pool::of(Dtype dtype, Shape shape, const std::vector<double>& values) {
  const Tensor x = make(dtype, shape);
  check(static_cast<int64_t>(values.size()) == x.elements(), "Pool::of: another number of values than elements");
  for (int64_t i = 0; i < x.elements(); ++i) set(x, i / x.columns(), i % x.columns(), values[static_cast<size_t>(i)]);
  return x;
}

Tensor Pool::filled(Dtype dtype, Shape shape, double value) {
  const Tensor x = make(dtype, shape);
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t c = 0; c < x.columns(); ++c) set(x, r, c, value);
  }
  return x;
}

Tensor Pool::as(Dtype dtype, const Tensor& x) {
  if (!x.exists()) return x;
  const Tensor y = make(dtype, x.shape());
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t c = 0; c < x.columns(); ++c) set(y, r, c, at(x, r, c));
  }
  return y;
}

Tensor Pool::magnitude(const Tensor& x) {
  const Tensor y = as(Dtype::kF64, x);
  if (!y.exists()) return y;
  for (int64_t r = 0; r < y.rows(); ++r) {
    for (int64_t c = 0; c < y.columns(); ++c) set(y, r, c, std::abs(at(y, r, c)));
  }
  return y;
}

void Pool::expect_gaps_untouched() const {
  for (const auto& [whole, part] : strided_) {
    for (int64_t r = 0; r < whole.rows(); ++r) {
      for (int64_t c = 0; c < whole.columns(); ++c) {
        const bool gap = c < kGapBefore || c >= kGapBefore + part.columns();
        if (!gap) continue;
        EXPECT_TRUE(std::isnan(at(whole, r, c))) << "written outside the row of a strided tensor at " << place(r, c - kGapBefore);
      }
    }
  }
}

void expect_close(const Tensor& actual, const Tensor& expected, double units, const Tensor& magnitude, const std::string& what) {
  ASSERT_EQ(actual.rows(), expected.rows()) << what;
  ASSERT_EQ(actual.columns(), expected.columns()) << what;
  const double exact = unit_roundoff(actual.dtype() == Dtype::kF64 ? Dtype::kF64 : Dtype::kF32);
  int64_t wrong = 0;
  std::string first;
  for (int64_t r = 0; r < actual.rows(); ++r) {
    for (int64_t c = 0; c < actual.columns(); ++c) {
      const double a = at(actual, r, c), e = at(expected, r, c);
      const double allowed = units * exact * at(magnitude, r, c) + unit_roundoff(actual.dtype()) * std::abs(e) + 1e-37;
      if (a == e || std::abs(a - e) <= allowed) continue;
      if (wrong++ == 0) {
        char text[160];
        std::snprintf(text, sizeof text, ": expected %.9g, found %.9g, allowed error %.3g", e, a, allowed);
        first = place(r, c) + text;
      }
    }
  }
  EXPECT_EQ(wrong, 0) << what << ": " << wrong << " of " << actual.elements() << " elements are off, the first at " << first;
}

void expect_close(const Tensor& actual, const Tensor& expected, double units, double magnitude, const std::string& what) {
  Pool pool;
  expect_close(actual, expected, units, pool.filled(Dtype::kF64, actual.shape(), magnitude), what);
}

void expect_same_bits(const Tensor& actual, const Tensor& expected, const std::string& what) {
  ASSERT_EQ(actual.dtype(), expected.dtype()) << what;
  ASSERT_EQ(actual.shape(), expected.shape()) << what;
  const int64_t size = size_of(actual.dtype());
  for (int64_t r = 0; r < actual.rows(); ++r) {
    const auto row = [r, size](const Tensor& x) { return static_cast<const char*>(x.data()) + r * x.row_stride() * size; };
    if (actual.columns() == 0 || std::memcmp(row(actual), row(expected), static_cast<size_t>(actual.columns() * size)) == 0) continue;
    for (int64_t c = 0; c < actual.columns(); ++c) {
      const char* a = row(actual) + c * size;
      const char* e = row(expected) + c * size;
      if (std::memcmp(a, e, static_cast<size_t>(size)) == 0) continue;
      char text[80];
      std::snprintf(text, sizeof text, "%.17g and %.17g", at(actual, r, c), at(expected, r, c));
      ADD_FAILURE() << what << ": other bits at " << place(r, c) << ": " << text;
      return;
    }
  }
}

double sum_units(int64_t n) { return 4 + std::sqrt(static_cast<double>(n)); }

Tensor numeric_gradient(Pool& pool, const Tensor& x, const std::function<double()>& loss) {
  constexpr double kStep = 1e-5;
  const Tensor gradient = pool.make(Dtype::kF64, x.shape());
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t c = 0; c < x.columns(); ++c) {
      const double before = at(x, r, c);
      set(x, r, c, before + kStep);
      const double above = loss();
      set(x, r, c, before - kStep);
      const double below = loss();
      set(x, r, c, before);
      set(gradient, r, c, (above - below) / (2 * kStep));
    }
  }
  return gradient;
}

double relative_difference(const Tensor& a, const Tensor& b) {
  double difference = 0, norm_a = 0, norm_b = 0;
  for (int64_t r = 0; r < a.rows(); ++r) {
    for (int64_t c = 0; c < a.columns(); ++c) {
      const double x = at(a, r, c), y = at(b, r, c);
      difference += (x - y) * (x - y);
      norm_a += x * x;
      norm_b += y * y;
    }
  }
  return difference == 0 ? 0 : std::sqrt(difference) / (std::sqrt(norm_a) + std::sqrt(norm_b));
}

double inner_product(const Tensor& a, const Tensor& b) {
  double total = 0;
  for (int64_t r = 0; r < a.rows(); ++r) {
    for (int64_t c = 0; c < a.columns(); ++c) total += at(a, r, c) * at(b, r, c);
  }
  return total;
}

}  // namespace switchyard
