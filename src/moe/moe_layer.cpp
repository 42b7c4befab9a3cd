#include "src/moe/moe_layer.h"

namespace switchyard {
namespace {

Tensor as_column(const Tensor& x) { return x.reshape({x.elements(), 1}); }

// y[t] (+)= sum over k of gate[t, k] * returned[position[t, k]], 0 where the token has no entry.
void weigh(Context& ctx, const Tensor& returned, const Route& route, Target y) { ctx.backend.gather_rows(y, returned, route.position, route.gate); }

// dgate[t, k] = <dy[t], returned[position[t, k]]>, 0 where the choice has no entry. [T, k] exact in scratch memory.
Tensor gate_gradient(Context& ctx, const Tensor& dy, const Tensor& returned, const Route& route) {
  Tensor dgate = ctx.temporary(ctx.precision.exact, route.gate.shape());
  ctx.backend.row_dot(Out(dgate), dy, returned, route.position);
  return dgate;
}

// dreturned[i] = gate[source[i]] * dy[token[i]]
void weigh_backward(Context& ctx, const Tensor& dy, const Route& route, Out dreturned) {
  const Arena::Mark mark(ctx.scratch);
  const Tensor token = as_column(route.token.slice_rows(0, route.entries)), source = as_column(route.source.slice_rows(0, route.entries));
  const Tensor gate = ctx.temporary(ctx.precision.exact, {route.entries, 1});
  ctx.backend.gather_rows(Out(gate), as_column(route.gate), source, Tensor());
  ctx.backend.gather_rows(dreturned, dy, token, gate);
}

}  // namespace

MoeLayer::MoeLayer(const std::string& prefix, int layer, const MoeShape& shape, const MoeOptions& options, Communicator& communicator, const Grid& grid)
    : layer_(layer),
      width_(shape.width),
      router_(prefix, layer, shape, options),
      exchange_(communicator, grid, layer, options.experts),
      experts_(prefix, layer, shape, options) {
  if (options.router == RouterKind::kSoft) mixer_.emplace(prefix, shape, options);
  if (options.shared_experts == 0) return;
  shared_ = FeedForwardLayer::make(prefix + ".shared",
                                   {.width = shape.width,
                                    .hidden = options.shared_experts * shape.feed_forward,
                                    .bias = shape.bias,
                                    .dropout = options.expert_dropout,
                                    .initializer_scale = shape.initializer_scale,
                                    .activation = shape.activation,
                                    .gated = shape.gated},
                                   shape.block);
}

void MoeLayer::visit(const ParameterVisitor& visitor) {
  if (mixer_) {
    mixer_->visit(visitor);
  } else {
    router_.visit(visitor);
  }
  if (shared_) shared_->visit(visitor);
  experts_.visit(visitor);
}

// Fills saved.route(). Answers with the rows that it sends: x itself, or the mixer's slots.
Tensor MoeLayer::route(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const {
  if (mixer_) return mixer_->forward(ctx, x, batch, saved.mixer, saved.router.route, saved.router.statistics);
  router_.forward(ctx, x, batch, saved.router);
  return x;
}

Tensor MoeLayer::forward(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "moe", layer_);
  // The routed experts' output joins that of the shared ones.
  const Target y{shared_ ? shared_->forward(ctx, x, saved.shared) : ctx.temporary(ctx.precision.activation, x.shape()), shared_.has_value()};
  const Tensor rows = route(ctx, x, batch, saved);                                 // entries (token, expert, slot, gate)
  const Rows arrived = exchange_.dispatch(ctx, rows, saved.route(), saved.table);  // rows at their experts: (expert, lane, slot)
  const Rows processed = exchange_.rows_outbox(ctx, saved.table, width_);          // the experts write where the rows leave from
  experts_.forward(ctx, arrived, processed, saved.experts);
  saved.returned = exchange_.combine(ctx, processed);  // rows back home: (expert, slot)
  if (mixer_) {
    mixer_->combine(ctx, saved.returned, saved.route(), saved.mixer, y);
  } else {
    weigh(ctx, saved.returned, saved.route(), y);  // y[t] = sum of gate * row, 0 where dropped
  }
  return y.tensor;
}

Tensor MoeLayer::backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads) const {
  const Span span(ctx.trace, SpanKind::kCompute, "moe backward", layer_);
  const Route& route = saved.route();
  Tensor dx = ctx.temporary(ctx.precision.activation, dy.shape());
  const Arena::Mark mark(ctx.scratch);
  // Summed in exact from exchange, router and shared experts, then rounded once; without rounding it is summed in its place.
  const Tensor sum = ctx.precision.exact == dx.dtype() ? dx : ctx.temporary(ctx.precision.exact, dy.shape());

  const Tensor dshared = shared_ ? shared_->backward(ctx, dy, saved.shared, grads) : Tensor();
  // Of gates, or of the mixer's combining weights.
  Tensor dgate = mixer_ ? Tensor() : gate_gradient(ctx, dy, saved.returned, route);
  const Tensor dreturned = exchange_.entries_outbox(ctx, saved.table, width_);
  if (mixer_) {
    dgate = mixer_->combine_backward(ctx, dy, route, saved.mixer, Out(dreturned));
  } else {
    weigh_backward(ctx, dy, route, Out(dreturned));
  }
  const Rows dprocessed = exchange_.combine_backward(ctx, dreturned, saved.table);  // travels like dispatch
  const Rows darrived = exchange_.rows_outbox(ctx, saved.table, width_);
  experts_.backward(ctx, dprocessed, darrived, saved.experts, grads);
  if (mixer_) {
    const Tensor dslots = ctx.temporary(ctx.precision.exact, saved.mixer.slots_out.shape());
    exchange_.dispatch_backward(ctx, darrived, route, Out(dslots));
    mixer_->backward(ctx, dslots, dgate, saved.mixer, grads, Out(sum));
  } else {
    exchange_.dispatch_backward(ctx, darrived, route, Out(sum));  // travels like combine
    router_.backward(ctx, dgate, saved.router, grads, Accumulate(sum));
  }
  if (shared_) ctx.backend.convert(Accumulate(sum), dshared);
  if (sum.dtype() != dx.dtype()) ctx.backend.convert(Out(dx), sum);
  return dx;
}

}  // namespace switchyard
