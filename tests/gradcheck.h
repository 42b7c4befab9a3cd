// Gradient checks in f64: central differences against what backward says, tensor by tensor.
//
//   error = |a - n| / (|a| + |n|) in the 2-norm, at most kTolerance, with step kStep.
//
// Every entry of tensors up to kEveryEntry elements; of larger ones kEntries fixed entries and kDirections directions.
// Each check also plants a factor of 1.001 and expects to see it, so a check that cannot fail does not pass.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/test_parameters.h"

namespace switchyard::test {

inline constexpr double kStep = 1e-5;
inline constexpr double kTolerance = 1e-6;
inline constexpr double kPlanted = 1.001;
inline constexpr int64_t kEveryEntry = 4096;
inline constexpr int64_t kEntries = 256;
inline constexpr int kDirections = 8;

// A tensor that the loss depends on, and what backward says of it.
struct Checked {
  std::string name;
  Tensor values;                          // F64, perturbed in place
  Tensor gradient;                        // F64, same shape
  std::function<void()> changed = [] {};  // after every change of values
};

// 0 where both vanish.
inline double relative_error(const std::vector<double>& a, const std::vector<double>& n, double factor = 1) {
  double difference = 0, size_a = 0, size_n = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = factor * a[i];
    difference += (x - n[i]) * (x - n[i]);
    size_a += x * x;
    size_n += n[i] * n[i];
  }
  const double size = std::sqrt(size_a) + std::sqrt(size_n);
  return size == 0 ? 0 : std::sqrt(difference) / size;
}

class GradientCheck {
 public:
  explicit GradientCheck(std::function<double()> loss) : loss_(std::move(loss)) {}

  void operator()(const Checked& checked) {
    SCOPED_TRACE(checked.name);
    std::vector<double> analytic, numeric;
    const int64_t n = checked.values.elements();
    ASSERT_EQ(n, checked.gradient.elements());
    const int64_t entries = n <= kEveryEntry ? n : kEntries;
    for (int64_t i = 0; i < entries; ++i) {
      const int64_t entry = n <= kEveryEntry ? i : static_cast<int64_t>(mix64(static_cast<uint64_t>(i)) % static_cast<uint64_t>(n));
      analytic.push_back(get(checked.gradient, entry));
      numeric.push_back(slope(checked, [&](double step) { set(checked.values, entry, get(checked.values, entry) + step); }));
    }
    for (int d = 0; n > kEveryEntry && d < kDirections; ++d) {
      const std::vector<double> direction = unit_direction(n, static_cast<uint64_t>(d));
      double along = 0;
      for (int64_t i = 0; i < n; ++i) along += get(checked.gradient, i) * direction[static_cast<size_t>(i)];
      analytic.push_back(along);
      numeric.push_back(slope(checked, [&](double step) {
        for (int64_t i = 0; i < n; ++i) set(checked.values, i, get(checked.values, i) + step * direction[static_cast<size_t>(i)]);
      }));
    }
    const double error = relative_error(analytic, numeric);
    EXPECT_LE(error, kTolerance) << "the gradient of " << checked.name << " is not the slope of the loss";
    EXPECT_GT(relative_error(analytic, numeric, kPlanted), kTolerance) << "the gradient of " << checked.name << " is zero: this check cannot fail";
  }

  // Every parameter of a store.
  void operator()(TestStore& store, TestGradients& gradients) {
    for (Parameter* parameter : store.parameters()) {
      (*this)({parameter->name, store.master(*parameter), gradients.gradient(*parameter), [&store, parameter] { store.publish(*parameter); }});
    }
  }

 private:
  // Values are restored to their bits.
  template <class Move>
  double slope(const Checked& checked, Move move) {
    const std::vector<double> kept(checked.values.get<double>(), checked.values.get<double>() + checked.values.elements());
    const auto at = [&](double step) {
      move(step);
      checked.changed();
      const double loss = loss_();
      std::copy(kept.begin(), kept.end(), checked.values.get<double>());
      return loss;
    };
    const double above = at(kStep);
    const double below = at(-kStep);
    checked.changed();
    return (above - below) / (2 * kStep);
  }

  static std::vector<double> unit_direction(int64_t n, uint64_t seed) {
    std::vector<double> direction(static_cast<size_t>(n));
    double square = 0;
    for (int64_t i = 0; i < n; ++i) {
      direction[static_cast<size_t>(i)] = draw_normal(1000 + seed, i);
      square += direction[static_cast<size_t>(i)] * direction[static_cast<size_t>(i)];
    }
    for (double& value : direction) value /= std::sqrt(square);
    return direction;
  }

  std::function<double()> loss_;
};

}  // namespace switchyard::test
