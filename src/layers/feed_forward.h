// FeedForwardLayer: y = W_out dropout(activation(W_in x) * W_gate x); without a gate y = W_out dropout(activation(W_in x))
// (switch.md 2.5). Ungated ReLU and its dropout happen on the product's way out; everything else keeps W_in x, and W_gate
// x, for backward.
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
    Activation activation = Activation::kRelu;
    bool gated = false;
  };

  Options options;
  LinearLayer in;    // [F, D]
  LinearLayer gate;  // [F, D], where gated
  LinearLayer out;   // [D, F]
  int layer = 0;     // number of the block, part of the dropout's name

  struct Saved {
    LinearLayer::Saved in_x, gate_x, out_x;
    Tensor u;       // [n, F] activation, W_in x; none for ungated ReLU
    Tensor g;       // [n, F] activation, W_gate x; or none
    Tensor hidden;  // [n, F] activation, what W_out reads
  };

  // Names are "<name>.in.weight", "<name>.gate.weight" and "<name>.out.weight" (and .bias).
  static FeedForwardLayer make(const std::string& name, const Options& options, int layer);

  // x [T, D] activation, which must stay until backward -> y [T, D] activation, in ctx.scratch.
  Tensor forward(Context& ctx, const Tensor& x, Saved& saved) const;
  // dy [T, D] activation -> dx [T, D] activation, in ctx.scratch.
  Tensor backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads) const;

  void visit(const ParameterVisitor& visitor);

 private:
  bool is_relu() const { return options.activation == Activation::kRelu && !options.gated; }
  void activation_backward(Context& ctx, const Tensor& dhidden, const Saved& saved, Gradients& grads, Out dx) const;
};

}  // namespace switchyard
