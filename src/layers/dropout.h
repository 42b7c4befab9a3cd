// DropoutLayer: dropout of a tensor whose rows are the micro-batch's tokens. It has no parameters and saves nothing:
// the mask is a pure function of (seed, purpose, layer, step, token, column) and is drawn again on the way back.
#pragma once

#include "src/layers/context.h"

namespace switchyard {

struct DropoutLayer {
  double rate = 0;
  Purpose purpose = Purpose::kEmbeddingDropout;
  int layer = 0;  // number of the block, part of the draw's name

  // x [T, D] activation, in place.
  void forward(Context& ctx, const Tensor& x) const;
  // The residual connection: y [T, D] = x + dropout(branch), in ctx.saved.
  Tensor add(Context& ctx, const Tensor& x, const Tensor& branch) const;
  // The gradient of what was dropped, from dy [T, D], which stays as it is: dy itself where nothing is dropped, else a
  // tensor in ctx.scratch.
  Tensor backward(Context& ctx, const Tensor& dy) const;
};

}  // namespace switchyard
