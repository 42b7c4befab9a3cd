#include "src/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "src/base/error.h"

namespace switchyard {
namespace {

constexpr double kPi = 3.14159265358979323846;

// How far the decay has come, in [0, 1].
double progress(const ScheduleOptions& options, int64_t step) {
  const int64_t length = options.schedule_steps - options.warmup_steps;
  if (length <= 0) {
    throw Error(ExitCode::kUsage, "optimizer.schedule_steps is " + std::to_string(options.schedule_steps) +
                                      " but a linear or cosine schedule needs more than the " + std::to_string(options.warmup_steps) +
                                      " warm-up steps; raise it");
  }
  return std::min(1.0, static_cast<double>(step - options.warmup_steps) / static_cast<double>(length));
}

}  // namespace

double rate(const ScheduleOptions& options, int64_t step) {
  if (options.kind == ScheduleKind::kInverseSquareRoot) {
    const int64_t plateau = std::max<int64_t>(1, options.warmup_steps);
    return options.rate * std::sqrt(static_cast<double>(plateau) / static_cast<double>(std::max(step, plateau)));
  }
  const bool decays = options.kind != ScheduleKind::kConstant;
  const double x = decays ? progress(options, step) : 0;
  if (step < options.warmup_steps) return options.rate * static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  const double f = options.final_fraction;
  switch (options.kind) {
    case ScheduleKind::kLinear: return options.rate * (1 - (1 - f) * x);
    case ScheduleKind::kCosine: return options.rate * (f + (1 - f) * (1 + std::cos(kPi * x)) / 2);
    case ScheduleKind::kConstant:
    case ScheduleKind::kInverseSquareRoot: break;
  }
  return options.rate;
}

}  // namespace switchyard
