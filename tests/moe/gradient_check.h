// The whole layer's gradients against central differences in f64, with the experts' choices frozen by replay.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "comm/self.h"
#include "tests/moe/moe_world.h"

namespace switchyard {

// Scalar loss of one micro-batch: <y, dy> plus the router's own losses.
class GradientCheck {
 public:
  explicit GradientCheck(const Case& c) : c_(c), communicator_(make_self_communicator({})), rank_(c_, *communicator_) {
    book_.mode = RouteBook::Mode::kRecord;
    rank_.ctx.routes = &book_;
    const int64_t elements = c_.tokens * c_.shape.width;
    for (int64_t i = 0; i < elements; ++i) {
      x_.push_back(c_.x(0, 0, i / c_.shape.width, i % c_.shape.width));
      dy_.push_back(c_.dy(0, 0, i / c_.shape.width, i % c_.shape.width));
    }
    value();
    book_.mode = RouteBook::Mode::kReplay;
  }
  void without_task_loss() { std::fill(dy_.begin(), dy_.end(), 0.0); }

  double value() {
    const Arena::Mark saved(rank_.saved), scratch(rank_.scratch);
    const std::vector<double> y = to_doubles(forward());
    double total = rank_.kept.statistics().sums[0] + rank_.kept.statistics().sums[1];
    for (size_t i = 0; i < y.size(); ++i) total += y[i] * dy_[i];
    return total;
  }

  // By name of the parameter, or "x".
  Result analytic() {
    const Arena::Mark saved(rank_.saved), scratch(rank_.scratch);
    forward();
    const Tensor dy = rank_.ctx.temporary(Dtype::kF64, {c_.tokens, c_.shape.width});
    fill(dy, [&](int64_t t, int64_t d) { return dy_[static_cast<size_t>(t * c_.shape.width + d)]; });
    Sink sink(Dtype::kF64);
    Result result;
    result["x"] = to_doubles(rank_.layer.backward(rank_.ctx, dy, rank_.kept, sink));
    for (const auto& [name, buffer] : sink.buffers()) result[name] = to_doubles(sink.tensor(name));
    return result;
  }

  std::vector<double> numeric(const std::string& name) {
    std::vector<double> result;
    if (name == "x") {
      for (double& element : x_) result.push_back(difference([&](double shift) { element += shift; }));
      return result;
    }
    const Parameter& parameter = rank_.weights[name];
    for (int64_t i = 0; i < parameter.shape.elements(); ++i) {
      double moved = 0;
      result.push_back(difference([&](double shift) {
        moved += shift;
        rank_.weights.set(name, [&](int64_t r, int64_t k) {
          const int64_t at = r * parameter.columns() + k;
          return c_.weight(name, r, k, parameter.columns()) + (at == i ? moved : 0);
        });
      }));
    }
    return result;
  }

 private:
  Tensor forward() {
    const Tensor x = rank_.ctx.keep(Dtype::kF64, {c_.tokens, c_.shape.width});
    fill(x, [&](int64_t t, int64_t d) { return x_[static_cast<size_t>(t * c_.shape.width + d)]; });
    return rank_.layer.forward(rank_.ctx, x, c_.batch(rank_.ctx, 0, c_.tokens), rank_.kept);
  }

  template <class Move>
  double difference(Move move) {
    constexpr double kStep = 1e-5;
    move(kStep);
    const double above = value();
    move(-2 * kStep);
    const double below = value();
    move(kStep);
    return (above - below) / (2 * kStep);
  }

  Case c_;
  std::unique_ptr<Communicator> communicator_;
  Rank rank_;
  RouteBook book_;
  std::vector<double> x_, dy_;
};

// |a - n| / (|a| + |n|) in the 2-norm; 0 where both are below what differences can see.
inline double relative_error(const std::vector<double>& a, const std::vector<double>& n) {
  double difference = 0, of_a = 0, of_n = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - n[i]) * (a[i] - n[i]);
    of_a += a[i] * a[i];
    of_n += n[i] * n[i];
  }
  return std::sqrt(of_a) + std::sqrt(of_n) < 1e-9 ? 0 : std::sqrt(difference) / (std::sqrt(of_a) + std::sqrt(of_n));
}

inline double norm(const std::vector<double>& values) {
  double total = 0;
  for (const double value : values) total += value * value;
  return std::sqrt(total);
}

inline void expect_gradients(GradientCheck& check) {
  for (const auto& [name, values] : check.analytic()) EXPECT_LE(relative_error(values, check.numeric(name)), 1e-6) << "gradient of " << name;
}

}  // namespace switchyard
