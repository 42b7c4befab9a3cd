// What a MoE layer is made of, as plain numbers. src/config fills these from the configuration.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "src/moe/payload.h"

namespace switchyard {

// What becomes of the fraction in tokens * factor / experts (systems.md 1h).
enum class CapacityRounding : uint8_t {
  kDown,     // Mesh TensorFlow's
  kNearest,  // half to even; flaxformer's
  kUp,       // Megatron's, DeepSpeed's
  kMeanUp,   // tokens / experts is rounded up, then its multiple by the factor down; Tutel's, fairseq's
};

// The enumerations of the configuration (config.proto says what each means).
enum class RouterKind : uint8_t { kTopK, kNoTokenLeftBehind, kExpertChoice, kHash, kSoft };
enum class SlotOrder : uint8_t { kLeftToRight, kBatchPrioritised };
enum class Exploration : uint8_t { kInputJitter, kSample, kInputDropout, kLogitNoise };
enum class GateKind : uint8_t { kProbability, kRenormalised, kMaskOnly };
enum class SecondPolicy : uint8_t { kAlways, kRandom };
enum class BalanceScope : uint8_t { kPerGroup, kGlobal };
enum class OverLayers : uint8_t { kSum, kMean };

struct MoeOptions {
  int experts = 1;                    // 1: a dense feed-forward in every block
  int every = 2;                      // blocks every-1, 2*every-1, ... (counted from 0) are MoE blocks
  double capacity_factor = 1.25;      // 0: no token is dropped
  double eval_capacity_factor = 2.0;  // 0: no token is dropped
  int min_capacity = 4;
  CapacityRounding capacity_rounding = CapacityRounding::kDown;
  int capacity_multiple = 1;          // slots are rounded up to a multiple of it
  int unusable_slots = 0;             // of an expert's slots, never filled
  bool capacity_times_top_k = false;  // a token counts k times
  int64_t group_tokens = 0;           // tokens of a token group; 0: the whole micro-batch
  RouterKind router = RouterKind::kTopK;
  int top_k = 1;  // k
  SlotOrder order = SlotOrder::kLeftToRight;
  Exploration exploration = Exploration::kInputJitter;
  double jitter = 0.01;  // strength of the exploration
  GateKind gate = GateKind::kProbability;
  SecondPolicy second_policy = SecondPolicy::kAlways;
  bool router_bf16 = false;
  double balance_loss = 0.01;  // alpha
  BalanceScope balance_scope = BalanceScope::kPerGroup;
  OverLayers balance_over_layers = OverLayers::kSum;
  double z_loss = 0;     // c_z
  double bias_rate = 0;  // of the loss-free balance; 0: no bias
  double expert_dropout = 0;
  int shared_experts = 0;
  int64_t feed_forward = 0;  // F of one expert; 0: the model's
  int soft_slots = 1;        // of one expert and sequence
  int64_t vocabulary = 0;    // of hash routing: numbers of tokens are below it
  uint64_t seed = 0;         // of hash routing's table
  int overlap_chunks = 1;    // into which the exchange is cut; no result depends on it
  int64_t fixed_block = 0;   // in training: rows that every expert gets from every lane, see fixed_block(); 0: as many as there are
  PayloadOptions payload{};
};

// F of one expert in a model whose feed-forward layers have `model_feed_forward`.
inline int64_t expert_feed_forward(const MoeOptions& options, int64_t model_feed_forward) {
  return options.feed_forward > 0 ? options.feed_forward : model_feed_forward;
}

// The shape of a MoE layer that its model gives it.
struct MoeShape {
  int64_t width = 0;               // D
  int64_t feed_forward = 0;        // F, of one expert
  bool bias = false;               // of the experts' two products
  double initializer_scale = 0.1;  // s of sqrt(s / fan_in)
  int block = 0;                   // number of the block: names the draws of the shared experts' dropout
  Activation activation = Activation::kRelu;
  bool gated = false;  // activation(x W_in) * x W_gate
};

}  // namespace switchyard
