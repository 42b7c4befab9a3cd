// LinearLayer: y = x W^T + b. The layer from which attention and feed-forward are made.
#pragma once

#include <string>

#include "src/layers/context.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"

namespace switchyard {

// What happens to y after the bias: ReLU, then dropout.
struct Epilogue {
  bool relu = false;
  Dropout dropout;
};

// The same on the way back: dx is multiplied by `scale` where `output` is positive and by 0 elsewhere. output is what
// the layer below made with its Epilogue and gave to this layer as x; scale is 1 / (1 - rate) of its dropout.
struct ReluBelow {
  Tensor output;  // [n, in], or none
  double scale = 1;
};

struct LinearLayer {
  Parameter weight;  // [out, in]
  Parameter bias;    // [out]; visited only if has_bias
  bool has_bias = false;

  struct Saved {
    Tensor x;  // [n, in], the caller's: it must stay until backward
  };

  // Names are "<name>.weight" and "<name>.bias".
  static LinearLayer make(const std::string& name, int64_t out, int64_t in, bool bias, const Initializer& initializer);

  // x [n, in] activation -> y [n, out] activation.
  void forward(Context& ctx, const Tensor& x, Saved& saved, Out y, const Epilogue& epilogue = {}) const;
  // dy [n, out] activation -> dx [n, in] activation, or exact where several layers add to it.
  void backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads, Target dx, const ReluBelow& below = {}) const;

  void visit(const ParameterVisitor& visitor);
};

}  // namespace switchyard
