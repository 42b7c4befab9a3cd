// SoftMixer: the router of Soft MoE (Puigcerver et al. 2023, algorithm 1). Nothing is chosen and nothing is dropped: an
// expert works on slots, each a weighted mean of a sequence's tokens, and a token gets a weighted mean of all slots.
//
// For one sequence, X [S, D], and M = experts * slots; slot m belongs to expert m / slots:
//   logits = X W^T [S, M]
//   dispatch = softmax of logits over the tokens    slots in  = dispatch^T X  [M, D]
//   combine  = softmax of logits over the slots     Y         = combine (slots out)  [S, D]
// Padding has weight 0 in both. Softmaxes are exact; products round their operands to the activation dtype.
//
// Slots travel like tokens: B * slots rows to every expert, by a Route whose "tokens" are the rows (sequence, slot).
#pragma once

#include <string>

#include "src/layers/context.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"
#include "src/moe/options.h"
#include "src/moe/route.h"
#include "src/moe/router.h"

namespace switchyard {

class SoftMixer {
 public:
  struct Saved {
    int64_t sequences = 0;  // B; a sequence is T / B rows
    Tensor x;               // [T, D] activation: the layer's input, alive until backward
    Tensor dispatch;        // [T, M] exact
    Tensor combine;         // [T, M] exact
    Tensor slots_out;       // [B * M, D] activation, by (sequence, slot)
  };

  // The weight is named `<prefix>.router.weight`, [M, D].
  SoftMixer(const std::string& prefix, const MoeShape& shape, const MoeOptions& options);

  // x [T, D] activation. Returns the slots' inputs [B * M, D] activation, by (sequence, slot), in scratch memory; fills
  // route and statistics, in which every expert has B * slots rows; entropy and gate are those of the combining weights.
  Tensor forward(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved, Route& route, RouterStatistics& statistics) const;
  // returned [B * M, D] activation: the slots' outputs, sorted like the route's entries. y [T, D] activation.
  void combine(Context& ctx, const Tensor& returned, const Route& route, Saved& saved, Target y) const;

  // dy [T, D] activation -> dreturned like returned. Answers with the gradient of the combining weights, [T, M] exact in
  // scratch memory.
  Tensor combine_backward(Context& ctx, const Tensor& dy, const Route& route, const Saved& saved, Out dreturned) const;
  // dslots_in [B * M, D] exact, by (sequence, slot); dcombine as above. dx [T, D] exact.
  void backward(Context& ctx, const Tensor& dslots_in, const Tensor& dcombine, const Saved& saved, Gradients& grads, Target dx) const;

  void visit(const ParameterVisitor& visitor) { visitor(weight_); }

 private:
  void fill_route(Context& ctx, int64_t sequences, Route& route, RouterStatistics& statistics) const;

  int64_t experts_, slots_;  // of a layer; of an expert and sequence
  Parameter weight_;         // [M, D]
};

}  // namespace switchyard
