// The gradient check itself: it accepts right gradients and refuses slightly wrong ones.
#include "tests/gradcheck.h"

#include <gtest/gtest-spi.h>

namespace switchyard::test {
namespace {

// loss = sum of sin(x) over n elements, gradient factor * cos(x).
void check_sine(int64_t n, double factor) {
  const Buffer values = make_buffer(Dtype::kF64, {n}), gradient = make_buffer(Dtype::kF64, {n});
  const Tensor x = values.tensor(Dtype::kF64, {n}), dx = gradient.tensor(Dtype::kF64, {n});
  fill_normal(x, 5);
  for (int64_t i = 0; i < n; ++i) set(dx, i, factor * std::cos(get(x, i)));
  GradientCheck check([&] {
    double total = 0;
    for (int64_t i = 0; i < n; ++i) total += std::sin(get(x, i));
    return total;
  });
  check({"x", x, dx});
}

TEST(GradientCheck, AcceptsTheRightGradient) {
  check_sine(7, 1);
  check_sine(kEveryEntry + 5, 1);
}

TEST(GradientCheck, RefusesAFactorOf1001) {
  EXPECT_NONFATAL_FAILURE(check_sine(7, 1.001), "is not the slope of the loss");
  EXPECT_NONFATAL_FAILURE(check_sine(kEveryEntry + 5, 1.001), "is not the slope of the loss");
}

}  // namespace
}  // namespace switchyard::test
