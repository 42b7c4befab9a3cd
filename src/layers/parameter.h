// Parameter: one named tensor that is learnt. Layers own their parameters' descriptions and the forms that products
// read; masters, moments and gradient sums live with their owners (src/train).
//
// Every parameter is visited by visit(visitor) of the layer that has it, and nobody indexes parameters by number:
// initialisation, optimizer, sums, norm, checkpoint, gradient check, import and export all walk the visitor.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "kernels/backend.h"

namespace switchyard {

enum class ParameterKind : uint8_t { kDense, kExpert };

struct Initializer {
  enum class Kind : uint8_t { kZero, kOne, kNormal, kTruncatedNormal };  // truncated: redrawn beyond two deviations
  Kind kind = Kind::kZero;
  double deviation = 0;  // of the normal before truncation (switch.md 2.8)
  // The first rows may have a deviation of their own: the queries of a fused qkv weight.
  int64_t first_rows = 0;
  double first_rows_deviation = 0;
};

// The forms in which a parameter is read. publish fills those that are asked for.
struct Forms {
  bool plain_weight = false;     // as it is, in the weight dtype (embedding tables)
  bool plain_exact = false;      // as it is, in the exact dtype (norm scales, biases)
  bool packed_forward = false;   // for y = x W^T
  bool packed_backward = false;  // for dx = dy W
  bool packed_exact = false;     // the packed forms are in the exact dtype (the router)
};

struct Parameter {
  std::string name;  // global, e.g. "decoder.block.3.moe.expert.17.in.weight"
  Shape shape;       // [rows, columns] or [columns]
  ParameterKind kind = ParameterKind::kDense;
  int moe_layer = -1;  // experts: number of the MoE layer, for owner(layer, expert)
  int expert = -1;     // experts: global number
  Initializer initializer;
  bool decay = true;        // weight decay applies
  int sliceable_axis = -1;  // the axis that tensor slices would cut; -1: none
  int uses = 1;             // how often a micro-batch's backward adds to its gradient
  Forms forms;

  // What layers read. Null until a store attaches memory; null for experts of other ranks.
  Tensor plain;
  PackedMatrix forward, backward;

  int64_t rows() const { return shape.rank() == 1 ? 1 : shape[0]; }
  int64_t columns() const { return shape[shape.rank() - 1]; }
  bool hosted() const { return plain.exists() || forward.storage.exists() || backward.storage.exists(); }
};

using ParameterVisitor = std::function<void(Parameter&)>;

}  // namespace switchyard
