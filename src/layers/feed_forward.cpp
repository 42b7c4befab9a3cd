#include "src/layers/feed_forward.h"

#include "src/layers/initializers.h"

namespace switchyard {

FeedForwardLayer FeedForwardLayer::make(const std::string& name, const Options& options, int layer) {
  FeedForwardLayer feed_forward;
  feed_forward.options = options;
  feed_forward.layer = layer;
  const double scale = options.initializer_scale;
  feed_forward.in = LinearLayer::make(name + ".in", options.hidden, options.width, options.bias, scaled_fan_in(scale, options.width));
  feed_forward.gate = LinearLayer::make(name + ".gate", options.hidden, options.width, options.bias, scaled_fan_in(scale, options.width));
  feed_forward.out = LinearLayer::make(name + ".out", options.width, options.hidden, options.bias, scaled_fan_in(scale, options.hidden));
  feed_forward.in.weight.sliceable_axis = 0;
  feed_forward.gate.weight.sliceable_axis = 0;
  feed_forward.out.weight.sliceable_axis = 1;
  return feed_forward;
}

Tensor FeedForwardLayer::forward(Context& ctx, const Tensor& x, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "feed_forward", layer);
  const Dropout dropout = ctx.dropout(options.dropout, Purpose::kHiddenDropout, layer);
  const Shape hidden{x.rows(), options.hidden};
  saved.hidden = ctx.keep(ctx.precision.activation, hidden);
  const Tensor y = ctx.temporary(ctx.precision.activation, x.shape());

  if (is_relu()) {
    in.forward(ctx, x, saved.in_x, Out(saved.hidden), {.relu = true, .dropout = dropout});
  } else {
    saved.u = ctx.keep(ctx.precision.activation, hidden);
    saved.g = options.gated ? ctx.keep(ctx.precision.activation, hidden) : Tensor{};
    in.forward(ctx, x, saved.in_x, Out(saved.u));
    if (options.gated) gate.forward(ctx, x, saved.gate_x, Out(saved.g));
    ctx.backend.activate(Out(saved.hidden), saved.u, saved.g, options.activation, dropout);
  }
  out.forward(ctx, saved.hidden, saved.out_x, Out(y));
  return y;
}

Tensor FeedForwardLayer::backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads) const {
  const Span span(ctx.trace, SpanKind::kCompute, "feed_forward.backward", layer);
  const Tensor dx = ctx.temporary(ctx.precision.activation, dy.shape());
  const Arena::Mark mark(ctx.scratch);
  const Tensor dhidden = ctx.temporary(ctx.precision.activation, saved.hidden.shape());

  if (is_relu()) {
    const Dropout dropout = ctx.dropout(options.dropout, Purpose::kHiddenDropout, layer);
    out.backward(ctx, dy, saved.out_x, grads, Out(dhidden), {.output = saved.hidden, .scale = 1 / (1 - dropout.rate)});
    in.backward(ctx, dhidden, saved.in_x, grads, Out(dx));
  } else {
    out.backward(ctx, dy, saved.out_x, grads, Out(dhidden));
    activation_backward(ctx, dhidden, saved, grads, Out(dx));
  }
  return dx;
}

// dhidden becomes the gradient of u.
void FeedForwardLayer::activation_backward(Context& ctx, const Tensor& dhidden, const Saved& saved, Gradients& grads, Out dx) const {
  const Dropout dropout = ctx.dropout(options.dropout, Purpose::kHiddenDropout, layer);
  const Tensor dg = options.gated ? ctx.temporary(ctx.precision.activation, dhidden.shape()) : Tensor{};
  ctx.backend.activate_backward(Out(dhidden), Out(dg), dhidden, saved.u, saved.g, options.activation, dropout);
  if (!options.gated) return in.backward(ctx, dhidden, saved.in_x, grads, dx);
  // Two products add to dx: in exact, rounded once.
  const bool exact = dx.tensor.dtype() == ctx.precision.exact;
  const Tensor sum = exact ? dx.tensor : ctx.temporary(ctx.precision.exact, dx.tensor.shape());
  gate.backward(ctx, dg, saved.gate_x, grads, Out(sum));
  in.backward(ctx, dhidden, saved.in_x, grads, Accumulate(sum));
  if (!exact) ctx.backend.convert(dx, sum);
}

void FeedForwardLayer::visit(const ParameterVisitor& visitor) {
  in.visit(visitor);
  if (options.gated) gate.visit(visitor);
  out.visit(visitor);
}

}  // namespace switchyard
