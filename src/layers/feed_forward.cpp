#include "src/layers/feed_forward.h"

#include "src/layers/initializers.h"

namespace switchyard {

FeedForwardLayer FeedForwardLayer::make(const std::string& name, const Options& options, int layer) {
  FeedForwardLayer feed_forward;
  feed_forward.options = options;
  feed_forward.layer = layer;
  const double scale = options.initializer_scale;
  feed_forward.in = LinearLayer::make(name + ".in", options.hidden, options.width, options.bias, scaled_fan_in(scale, options.width));
  feed_forward.out = LinearLayer::make(name + ".out", options.width, options.hidden, options.bias, scaled_fan_in(scale, options.hidden));
  feed_forward.in.weight.sliceable_axis = 0;
  feed_forward.out.weight.sliceable_axis = 1;
  return feed_forward;
}

Tensor FeedForwardLayer::forward(Context& ctx, const Tensor& x, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "feed_forward", layer);
  const Dropout dropout = ctx.dropout(options.dropout, Purpose::kHiddenDropout, layer);
  saved.hidden = ctx.keep(ctx.precision.activation, {x.rows(), options.hidden});
  const Tensor y = ctx.temporary(ctx.precision.activation, x.shape());

  in.forward(ctx, x, saved.in_x, Out(saved.hidden), {.relu = true, .dropout = dropout});
  out.forward(ctx, saved.hidden, saved.out_x, Out(y));
  return y;
}

Tensor FeedForwardLayer::backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads) const {
  const Span span(ctx.trace, SpanKind::kCompute, "feed_forward.backward", layer);
  const Dropout dropout = ctx.dropout(options.dropout, Purpose::kHiddenDropout, layer);
  const Tensor dx = ctx.temporary(ctx.precision.activation, dy.shape());
  const Arena::Mark mark(ctx.scratch);
  const Tensor dhidden = ctx.temporary(ctx.precision.activation, saved.hidden.shape());

  out.backward(ctx, dy, saved.out_x, grads, Out(dhidden), {.output = saved.hidden, .scale = 1 / (1 - dropout.rate)});
  in.backward(ctx, dhidden, saved.in_x, grads, Out(dx));
  return dx;
}

void FeedForwardLayer::visit(const ParameterVisitor& visitor) {
  in.visit(visitor);
  out.visit(visitor);
}

}  // namespace switchyard
