// How parameters are updated, as plain numbers.
#pragma once

#include <cstdint>

namespace switchyard {

enum class OptimizerKind : uint8_t { kAdamW, kSgd };
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double momentum = 0;   // SGD
  double decay = 0.1;    // decoupled weight decay, for parameters that take it
  double clip_norm = 1;  // of the global gradient norm; 0: no clipping
};

enum class ScheduleKind : uint8_t { kConstant, kInverseSquareRoot, kLinear, kCosine };
struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::kConstant;
  double rate = 1e-3;           // the peak
  int64_t warmup_steps = 0;     // linear from 0; of the inverse square root: its plateau (switch.md 4.1)
  int64_t schedule_steps = 0;   // length of linear and cosine, warm-up included
  double final_fraction = 0.1;  // of the peak, at the end of linear and cosine
};

}  // namespace switchyard
