#include "src/moe/moe_layer.h"

namespace switchyard {
namespace {

Tensor as_column(const Tensor& x) { return x.reshape({x.elements(), 1}); }

// y[t] = sum over k of gate[t, k] * returned[position[t, k]], 0 where the token has no entry.
void weigh(Context& ctx, const Tensor& returned, const Route& route, Out y) { ctx.backend.gather_rows(y, returned, route.position, route.gate); }

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
      experts_(prefix, layer, shape, options) {}

void MoeLayer::visit(const ParameterVisitor& visitor) {
  router_.visit(visitor);
  experts_.visit(visitor);
}

Tensor MoeLayer::forward(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "moe", layer_);
  Tensor y = ctx.temporary(ctx.precision.activation, x.shape());
  const Route& route = router_.forward(ctx, x, batch, saved.router);       // entries (token, expert, slot, gate)
  const Rows arrived = exchange_.dispatch(ctx, x, route, saved.table);     // rows at their experts: (expert, lane, slot)
  const Rows processed = exchange_.rows_outbox(ctx, saved.table, width_);  // the experts write where the rows leave from
  experts_.forward(ctx, arrived, processed, saved.experts);
  saved.returned = exchange_.combine(ctx, processed);  // rows back home: (expert, slot)
  weigh(ctx, saved.returned, route, Out(y));           // y[t] = sum of gate * row, 0 where dropped
  return y;
}

Tensor MoeLayer::backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads) const {
  const Span span(ctx.trace, SpanKind::kCompute, "moe backward", layer_);
  const Route& route = saved.route();
  Tensor dx = ctx.temporary(ctx.precision.activation, dy.shape());
  const Arena::Mark mark(ctx.scratch);
  // Summed in exact from exchange and router, then rounded once; without rounding it is summed in its place.
  const Tensor sum = ctx.precision.exact == dx.dtype() ? dx : ctx.temporary(ctx.precision.exact, dy.shape());

  const Tensor dgate = gate_gradient(ctx, dy, saved.returned, route);
  const Tensor dreturned = exchange_.entries_outbox(ctx, saved.table, width_);
  weigh_backward(ctx, dy, route, Out(dreturned));
  const Rows dprocessed = exchange_.combine_backward(ctx, dreturned, saved.table);  // travels like dispatch
  const Rows darrived = exchange_.rows_outbox(ctx, saved.table, width_);
  experts_.backward(ctx, dprocessed, darrived, saved.experts, grads);
  exchange_.dispatch_backward(ctx, darrived, route, Out(sum));  // travels like combine
  router_.backward(ctx, dgate, saved.router, grads, Accumulate(sum));
  if (sum.dtype() != dx.dtype()) ctx.backend.convert(Out(dx), sum);
  return dx;
}

}  // namespace switchyard
