#include "src/layers/norm.h"

#include "src/layers/initializers.h"

namespace switchyard {

NormLayer NormLayer::make(const std::string& name, int64_t width, const Norm& norm) {
  NormLayer layer;
  layer.norm = norm;
  layer.scale.name = name + ".scale";
  layer.scale.initializer = ones();
  layer.bias.name = name + ".bias";
  layer.bias.initializer = zeros();
  for (Parameter* parameter : {&layer.scale, &layer.bias}) {
    parameter->shape = {width};
    parameter->decay = false;
    parameter->forms = {.plain_exact = true};
  }
  return layer;
}

Tensor NormLayer::forward(Context& ctx, const Tensor& x, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "norm");
  saved.x = x;
  saved.statistics = ctx.keep(ctx.precision.exact, {x.rows(), 2});
  const Tensor y = ctx.keep(ctx.precision.activation, x.shape());
  ctx.backend.norm_forward(Out(y), Out(saved.statistics), x, scale.plain, has_bias() ? bias.plain : Tensor{}, norm);
  return y;
}

void NormLayer::backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads, Target dx) const {
  const Span span(ctx.trace, SpanKind::kCompute, "norm.backward");
  const Target dbias = has_bias() ? grads.target(bias) : Target{};
  const Target dscale = grads.target(scale);
  ctx.backend.norm_backward(dx, dscale, dbias, dy, saved.x, saved.statistics, scale.plain, norm);
  if (has_bias()) grads.done(bias);
  grads.done(scale);
}

void NormLayer::visit(const ParameterVisitor& visitor) {
  visitor(scale);
  if (has_bias()) visitor(bias);
}

}  // namespace switchyard
