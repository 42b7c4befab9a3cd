// FeedForwardLayer: y = W_out dropout(ReLU(W_in x)). ReLU and dropout happen on the product's way out.
#pragma once

#include <string>

#include "src/layers/linear.h"

namespace switchyard {

struct FeedForwardLayer {
  struct Options {
    int64_t width = 0, hidden = 0;  // D, F
    bool bias = false;
    double dropout = 0;  // of the hidden activation
    double initializer_scale = 0.1;
  };

  Options options;
  LinearLayer in;   // [F, D]
  LinearLayer out;  // [D, F]
  int layer = 0;    // number of the block, part of the dropout's name

  struct Saved {
    LinearLayer::Saved in_x, out_x;
    Tensor hidden;  // [n, F] activation, after ReLU and dropout
  };

  // Names are "<name>.in.weight" and "<name>.out.weight" (and .bias).
  static FeedForwardLayer make(const std::string& name, const Options& options, int layer);

  // x [T, D] activation, which must stay until backward -> y [T, D] activation, in ctx.scratch.
  Tensor forward(Context& ctx, const Tensor& x, Saved& saved) const;
  // dy [T, D] activation -> dx [T, D] activation, in ctx.scratch.
  Tensor backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads) const;

  void visit(const ParameterVisitor& visitor);
};

}  // namespace switchyard
