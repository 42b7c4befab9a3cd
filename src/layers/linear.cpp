#include "src/layers/linear.h"

#include "src/layers/initializers.h"

namespace switchyard {

LinearLayer LinearLayer::make(const std::string& name, int64_t out, int64_t in, bool bias, const Initializer& initializer) {
  LinearLayer layer;
  layer.weight.name = name + ".weight";
  layer.weight.shape = {out, in};
  layer.weight.initializer = initializer;
  layer.weight.forms = {.packed_forward = true, .packed_backward = true};
  layer.has_bias = bias;
  layer.bias.name = name + ".bias";
  layer.bias.shape = {out};
  layer.bias.initializer = zeros();
  layer.bias.decay = false;
  layer.bias.forms = {.plain_exact = true};
  return layer;
}

void LinearLayer::forward(Context& ctx, const Tensor& x, Saved& saved, Out y, const Epilogue& epilogue) const {
  saved.x = x;
  Product product;
  product.x = x;
  product.matrix = &weight.forward;
  product.y = y;
  if (has_bias) product.bias = bias.plain;
  product.relu = epilogue.relu;
  product.dropout = epilogue.dropout;
  ctx.backend.multiply({&product, 1});
}

void LinearLayer::backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads, Target dx, const ReluBelow& below) const {
  if (has_bias) {
    ctx.backend.sum_rows(grads.target(bias), dy);
    grads.done(bias);
  }
  const OuterProduct outer{.dy = dy, .x = saved.x, .dw = grads.target(weight)};
  ctx.backend.multiply_outer({&outer, 1});
  grads.done(weight);
  Product product;
  product.x = dy;
  product.matrix = &weight.backward;
  product.y = dx;
  product.relu_of = below.output;
  product.relu_of_scale = below.scale;
  ctx.backend.multiply({&product, 1});
}

void LinearLayer::visit(const ParameterVisitor& visitor) {
  visitor(weight);
  if (has_bias) visitor(bias);
}

}  // namespace switchyard
