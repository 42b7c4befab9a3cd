// NormLayer: LayerNorm with scale and bias, or RMSNorm with scale. The statistics are exact.
#pragma once

#include <string>

#include "src/layers/context.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"

namespace switchyard {

struct NormLayer {
  Norm norm;
  Parameter scale;  // [D]
  Parameter bias;   // [D]; visited only for LayerNorm

  struct Saved {
    Tensor x;           // [n, D] activation, the caller's: it must stay until backward
    Tensor statistics;  // [n, 2] exact: mean, 1 / deviation
  };

  // Names are "<name>.scale" and "<name>.bias".
  static NormLayer make(const std::string& name, int64_t width, const Norm& norm);

  // x [n, D] activation -> y [n, D] activation, in ctx.saved: the products that read y need it again.
  Tensor forward(Context& ctx, const Tensor& x, Saved& saved) const;
  // dy [n, D] activation; dx [n, D] activation is written or, at a pre-norm, added to the residual's gradient.
  void backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads, Target dx) const;

  void visit(const ParameterVisitor& visitor);

 private:
  bool has_bias() const { return norm.kind == NormKind::kLayerNorm; }
};

}  // namespace switchyard
