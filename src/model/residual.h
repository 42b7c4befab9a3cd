// Residual: what stands around a sublayer, which adds its own output to the stream, and the norm that belongs to it.
//
//   PRE   y = x + dropout(sublayer(norm(x)))
//   POST  y = norm(x + dropout(sublayer(x)))
#pragma once

#include "src/layers/dropout.h"
#include "src/layers/norm.h"
#include "src/model/options.h"

namespace switchyard {

struct Residual {
  NormPlace place = NormPlace::kPre;
  NormLayer norm;
  DropoutLayer dropout;

  using Saved = NormLayer::Saved;

  // x [T, D] activation in ctx.saved -> what the sublayer reads [T, D], in ctx.saved.
  Tensor enter(Context& ctx, const Tensor& x, Saved& saved) const;
  // branch [T, D] activation: what the sublayer made of it -> y [T, D] activation, in ctx.saved.
  Tensor leave(Context& ctx, const Tensor& x, const Tensor& branch, Saved& saved) const;

  // dy [T, D] activation -> the gradient of x + dropout(branch): dy itself at PRE, else a tensor in ctx.scratch.
  Tensor leave_backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads) const;
  // Of what the sublayer read (dread) and of the sum (dsum) -> dx [T, D] activation, which at PRE holds dsum already.
  void enter_backward(Context& ctx, const Tensor& dread, const Tensor& dsum, const Saved& saved, Gradients& grads, const Tensor& dx) const;

  // `sublayer` visits the sublayer's parameters. In forward order, so that backward closes them in the reverse.
  template <class Sublayer>
  void visit(const ParameterVisitor& visitor, Sublayer& sublayer) {
    if (place == NormPlace::kPre) norm.visit(visitor);
    sublayer.visit(visitor);
    if (place == NormPlace::kPost) norm.visit(visitor);
  }
};

}  // namespace switchyard
