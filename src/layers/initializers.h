// The initialisers of switch.md 2.8, column mesh-tf: the paper's, through Mesh TensorFlow.
#pragma once

#include <cmath>
#include <cstdint>

#include "src/layers/parameter.h"

namespace switchyard {

inline Initializer zeros() { return {.kind = Initializer::Kind::kZero}; }
inline Initializer ones() { return {.kind = Initializer::Kind::kOne}; }
inline Initializer normal(double deviation) { return {.kind = Initializer::Kind::kNormal, .deviation = deviation}; }

// Feed-forward, experts, router: a truncated normal of deviation sqrt(scale / fan_in). The paper's 0.1 is `scale`
// (Switch Transformers 2.4), so it multiplies the deviation by 0.316.
inline Initializer scaled_fan_in(double scale, int64_t fan_in) {
  return {.kind = Initializer::Kind::kTruncatedNormal, .deviation = std::sqrt(scale / static_cast<double>(fan_in))};
}

}  // namespace switchyard
