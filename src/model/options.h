// What a model is made of, as plain numbers. src/config fills these from the configuration; nothing here reads files.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace switchyard {

enum class CapacityRounding : uint8_t { kDown, kNearest, kUp };  // kDown is Mesh TensorFlow's

struct MoeOptions {
  int experts = 1;  // 1: a dense feed-forward in every block
  int every = 2;    // blocks every-1, 2*every-1, ... (counted from 0) are MoE blocks
  double capacity_factor = 1.25;
  double eval_capacity_factor = 2.0;  // 0: no token is dropped
  int min_capacity = 4;
  CapacityRounding capacity_rounding = CapacityRounding::kDown;
  int64_t group_tokens = 0;  // tokens of a token group; 0: the whole micro-batch
  double jitter = 0.01;
  double balance_loss = 0.01;  // alpha
  double z_loss = 0;           // c_z
  double expert_dropout = 0;
};

struct ModelOptions {
  int64_t vocabulary = 0;       // N
  int64_t width = 0;            // D
  int64_t heads = 0;            // H
  int64_t head_width = 0;       // K
  int64_t feed_forward = 0;     // F
  int64_t blocks = 0;
  int64_t sequence_length = 0;  // S, rows of the position table
  Norm norm;
  bool bias = false;            // of linear layers
  double dropout = 0;           // after the embedding and after each sublayer
  double hidden_dropout = 0;    // inside dense feed-forward layers
  double initializer_scale = 0.1;    // s of sqrt(s / fan_in) for feed-forward, experts and router
  double embedding_deviation = 1.0;  // of the token and position tables
  bool scale_tied_head = true;       // logits = D^-1/2 h E^T (switch.md 2.6); false: logits = h E^T
  bool scale_attention = false;      // scores / sqrt(K); false: the factor is in W_q's initialisation (switch.md 2.3)
  double z_loss = 1e-4;              // of the vocabulary's softmax (switch.md 2.7)
  MoeOptions moe;
};

}  // namespace switchyard
