#include "src/report/scale.h"

#include <algorithm>
#include <cmath>

namespace switchyard {

double Scale::at(double value) const {
  const double share = logarithmic ? (std::log(value) - std::log(low)) / (std::log(high) - std::log(low)) : (value - low) / (high - low);
  return begin + share * (end - begin);
}

Scale make_scale(double low, double high, double begin, double end, bool logarithmic) {
  constexpr double kMost = 1e300;  // so that differences and quotients stay finite
  logarithmic = logarithmic && low > 1 / kMost;
  if (!std::isfinite(low) || !std::isfinite(high) || low > high) low = logarithmic ? 0.1 : 0, high = 1;
  low = std::clamp(low, -kMost, kMost), high = std::clamp(high, -kMost, kMost);
  if (logarithmic && high <= low * 1.0001) low /= 2, high *= 2;
  if (!logarithmic && high - low <= 1e-12 * std::fmax(std::fabs(low), std::fabs(high))) {
    const double room = std::fabs(low) < 1 / kMost ? 1 : std::fabs(low) * 0.1;
    low -= room, high += room;
  }
  return {low, high, begin, end, logarithmic};
}

namespace {

std::vector<double> logarithmic_ticks(const Scale& scale) {
  std::vector<double> result;
  const int first = static_cast<int>(std::floor(std::log10(scale.low))), last = static_cast<int>(std::ceil(std::log10(scale.high)));
  const bool wide = last - first > 3;
  for (int power = first; power <= last; power += std::max(1, (last - first) / 6)) {
    for (const double step : {1.0, 2.0, 5.0}) {
      const double value = step * std::pow(10.0, power);
      if (value >= scale.low && value <= scale.high && (step == 1 || !wide)) result.push_back(value);
    }
  }
  return result;
}

}  // namespace

std::vector<double> ticks(const Scale& scale, int count) {
  if (scale.logarithmic) return logarithmic_ticks(scale);
  const double rough = (scale.high - scale.low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double candidate : {1.0, 2.0, 5.0}) {
    if (candidate * power >= rough) {
      step = candidate * power;
      break;
    }
  }
  std::vector<double> result;
  // A little beyond the end, for a value that rounding keeps just outside.
  for (double i = std::ceil(scale.low / step - 1e-9); i * step <= scale.high + 1e-9 * step && result.size() < 100; ++i) {
    result.push_back(i == 0 ? 0 : i * step);
  }
  return result;
}

}  // namespace switchyard
