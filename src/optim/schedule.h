// The learning rate as a function of the step. Skipped steps count as steps.
#pragma once

#include <cstdint>

#include "src/optim/options.h"

namespace switchyard {

// The rate of step `step` (0 for the first). With p = options.rate, w = options.warmup_steps, n = options.schedule_steps,
// f = options.final_fraction:
//   inverse square root   p * sqrt(w' / max(step, w')), w' = max(w, 1): a plateau of w steps, no linear warm-up
//                         (switch.md 4.1: p 0.01, w 10,000 is 1 / sqrt(max(step, 10,000)))
//   all others            step < w: p * (step + 1) / w, so that the first step learns something; from then on, with
//                         x = min(1, (step - w) / (n - w)):
//     constant            p
//     linear              p * (1 - (1 - f) x)
//     cosine              p * (f + (1 - f) (1 + cos(pi x)) / 2)
// Throws Error(kUsage) if linear or cosine lack schedule_steps > warmup_steps.
double rate(const ScheduleOptions& options, int64_t step);

}  // namespace switchyard
