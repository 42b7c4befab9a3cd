// What a model is made of, as plain numbers. src/config fills these from the configuration; nothing here reads files.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "src/moe/options.h"

namespace switchyard {

enum class ModelKind : uint8_t { kDecoder, kClassifier };
enum class NormPlace : uint8_t { kPre, kPost };
enum class Position : uint8_t { kLearned, kRelativeBias };

// The head of a classifier (config.proto).
struct ClassifierOptions {
  int classes = 0;
  int64_t hidden = 20;  // 0: no hidden layer
  double dropout = 0.1;
  bool pool_padding = false;
  bool see_padding = false;
};

struct ModelOptions {
  ModelKind kind = ModelKind::kDecoder;
  int64_t vocabulary = 0;    // N
  int64_t width = 0;         // D
  int64_t heads = 0;         // H
  int64_t head_width = 0;    // K
  int64_t feed_forward = 0;  // F
  int64_t blocks = 0;
  int64_t sequence_length = 0;  // S, rows of the position table
  Norm norm;
  NormPlace norm_place = NormPlace::kPre;
  Activation activation = Activation::kRelu;
  bool gated = false;
  Position position = Position::kLearned;
  int relative_buckets = 32, relative_distance = 128;
  bool bias = false;                 // of linear layers
  double dropout = 0;                // after the embedding and after each sublayer
  double hidden_dropout = 0;         // inside dense feed-forward layers
  double initializer_scale = 0.1;    // s of sqrt(s / fan_in) for feed-forward, experts and router
  double embedding_deviation = 1.0;  // of the token and position tables
  double attention_deviation = 0;    // of queries', keys' and values' projections; 0: as AttentionLayer has it
  bool scale_tied_head = true;       // logits = D^-1/2 h E^T (switch.md 2.6); false: logits = h E^T
  bool scale_attention = false;      // scores / sqrt(K); false: the factor is in W_q's initialisation (switch.md 2.3)
  double z_loss = 1e-4;              // of the vocabulary's softmax (switch.md 2.7)
  MoeOptions moe;
  ClassifierOptions classifier;

  // A token sees those before it and itself; else the whole text.
  bool causal() const { return kind == ModelKind::kDecoder; }
  // Attention and routers treat padding as tokens.
  bool sees_padding() const { return kind == ModelKind::kClassifier && classifier.see_padding; }
};

// Whether block `index`, counted from 0, is a MoE block.
inline bool is_moe_block(const MoeOptions& options, int64_t index) { return options.experts > 1 && (index + 1) % options.every == 0; }

}  // namespace switchyard
