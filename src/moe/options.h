// What a MoE layer is made of, as plain numbers. src/config fills these from the configuration.
#pragma once

#include <cstdint>

namespace switchyard {

// What becomes of the fraction in tokens * factor / experts (systems.md 1h).
enum class CapacityRounding : uint8_t {
  kDown,     // Mesh TensorFlow's
  kNearest,  // half to even; flaxformer's
  kUp,
};

struct MoeOptions {
  int experts = 1;                    // 1: a dense feed-forward in every block
  int every = 2;                      // blocks every-1, 2*every-1, ... (counted from 0) are MoE blocks
  double capacity_factor = 1.25;      // 0: no token is dropped
  double eval_capacity_factor = 2.0;  // 0: no token is dropped
  int min_capacity = 4;
  CapacityRounding capacity_rounding = CapacityRounding::kDown;
  int64_t group_tokens = 0;  // tokens of a token group; 0: the whole micro-batch
  double jitter = 0.01;
  double balance_loss = 0.01;  // alpha
  double z_loss = 0;           // c_z
  double expert_dropout = 0;
};

// The shape of a MoE layer that its model gives it.
struct MoeShape {
  int64_t width = 0;               // D
  int64_t feed_forward = 0;        // F, of one expert
  bool bias = false;               // of the experts' two products
  double initializer_scale = 0.1;  // s of sqrt(s / fan_in)
};

}  // namespace switchyard
