// PoolLayer: the mean of each sequence's rows. It has no parameters.
#pragma once

#include "src/layers/context.h"

namespace switchyard {

struct PoolLayer {
  bool padding = false;  // padding counts as the other rows do

  struct Saved {
    Tensor weight;  // [B, S] exact: 1 / rows of the sequence that count, 0 for those that do not
    int64_t sequences = 0, length = 0;
  };

  // x [B * S, D] activation, mask [B * S] I32 (0 where padding) or none -> y [B, D] activation, in ctx.scratch. A sequence
  // without a row that counts has the mean 0.
  Tensor forward(Context& ctx, const Tensor& x, int64_t length, const Tensor& mask, Saved& saved) const;
  // dy [B, D] activation -> dx [B * S, D] activation, in ctx.scratch.
  Tensor backward(Context& ctx, const Tensor& dy, const Saved& saved) const;

 private:
  Tensor weights(Context& ctx, const Tensor& mask, int64_t sequences, int64_t length) const;
};

}  // namespace switchyard
