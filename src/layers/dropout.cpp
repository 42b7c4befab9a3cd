#include "src/layers/dropout.h"

namespace switchyard {

void DropoutLayer::forward(Context& ctx, const Tensor& x) const {
  const Dropout dropout = ctx.dropout(rate, purpose, layer);
  if (dropout.rate == 0) return;
  const Span span(ctx.trace, SpanKind::kCompute, "dropout", layer);
  ctx.backend.dropout(Out(x), x, dropout);
}

Tensor DropoutLayer::add(Context& ctx, const Tensor& x, const Tensor& branch) const {
  const Span span(ctx.trace, SpanKind::kCompute, "residual", layer);
  const Tensor y = ctx.keep(ctx.precision.activation, x.shape());
  ctx.backend.add(Out(y), x, branch, ctx.dropout(rate, purpose, layer));
  return y;
}

Tensor DropoutLayer::backward(Context& ctx, const Tensor& dy) const {
  const Dropout dropout = ctx.dropout(rate, purpose, layer);
  if (dropout.rate == 0) return dy;
  const Span span(ctx.trace, SpanKind::kCompute, "dropout.backward", layer);
  const Tensor dx = ctx.temporary(ctx.precision.activation, dy.shape());
  ctx.backend.dropout(Out(dx), dy, dropout);
  return dx;
}

}  // namespace switchyard
