// LossLayer: the tied output matrix and the cross-entropy over the vocabulary, fused.
//
//   logits = c h E^T   with E [N, D] the token table and c = D^-1/2 or 1 (switch.md 2.6)
//   loss   = scale * sum over rows with a target of (Z - logit_target + z Z^2),  Z = logsumexp(logits)
//
// Logits exist for kRows rows at a time, in the activation dtype, and their gradient takes their place. So forward and
// backward are one call, and [T, N] never exists.
#pragma once

#include "src/layers/context.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"

namespace switchyard {

struct LossLayer {
  static constexpr int64_t kRows = 512;  // of one chunk; a constant, so that sums have one order

  double head_scale = 1;  // c
  double z = 0;           // of Z^2 (switch.md 2.7), in training only

  struct Saved {
    Tensor loss;  // [1] F64: this micro-batch's part of the step's loss
  };

  // h [T, D] activation, targets [T] I32 (-1: none), scale 1 / N_target of the step -> dh [T, D] activation, in
  // ctx.scratch; saved.loss in ctx.saved. The table's first use in a micro-batch's backward.
  Tensor backward(Context& ctx, const Tensor& h, const Tensor& targets, const Parameter& table, double scale, Saved& saved, Gradients& grads) const;

  // Per row of h: loss [T] exact, the negative log-likelihood in nats (no z; 0 without a target), and correct [T] I32,
  // 1 where the largest logit is the target's.
  void evaluate(Context& ctx, const Tensor& h, const Tensor& targets, const Parameter& table, Out loss, Out correct) const;

  // h [n, D] activation -> logits [n, N] exact, in ctx.scratch. For few rows, as in generation.
  Tensor logits(Context& ctx, const Tensor& h, const Parameter& table) const;

 private:
  // y (+)= c x, row by row, at most kRows rows.
  void scale_rows(Context& ctx, const Tensor& x, Target y) const;
  // c h: h itself where c is 1, else a tensor in ctx.scratch.
  Tensor scaled(Context& ctx, const Tensor& h) const;
  Tensor chunk_logits(Context& ctx, const Tensor& scaled_h, const Parameter& table, Dtype dtype) const;
};

}  // namespace switchyard
