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

// dreturned[i] = gate[source[i]] * dy[token[i]] for the entries i of a chunk
void weigh_backward(Context& ctx, const Tensor& dy, const Route& route, const Chunk& chunk, const Tensor& dreturned) {
  for (const Segment& run : chunk.home) {
    const Arena::Mark mark(ctx.scratch);
    const auto part = [&run](const Tensor& list) { return as_column(list.slice_rows(run.first_row, run.rows)); };
    const Tensor gate = ctx.temporary(ctx.precision.exact, {run.rows, 1});
    ctx.backend.gather_rows(Out(gate), as_column(route.gate), part(route.source), Tensor());
    ctx.backend.gather_rows(Out(dreturned.slice_rows(run.first_row, run.rows)), dy, part(route.token), gate);
  }
}

}  // namespace

MoeLayer::MoeLayer(const std::string& prefix, int layer, const MoeShape& shape, const MoeOptions& options, Communicator& communicator, const Grid& grid)
    : layer_(layer),
      width_(shape.width),
      router_(prefix, layer, shape, options),
      exchange_(communicator, grid, layer, options.experts, options.router == RouterKind::kSoft ? 1 : options.overlap_chunks),
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
  if (mixer_) return mixer_->forward(ctx, x, batch, saved.mixer, saved.router.route, saved.router.counted);
  router_.forward(ctx, x, batch, saved.router);
  return x;
}

Tensor MoeLayer::forward(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "moe", layer_);
  const Tensor rows = route(ctx, x, batch, saved);   // entries (token, expert, slot, gate)
  exchange_.count(ctx, saved.route(), saved.table);  // where the rows of every lane will lie
  const std::vector<Chunk>& chunks = saved.table.chunks;
  Trip trip = exchange_.forward_trip(ctx, saved.table, width_, router_.state().payloads());
  const auto dispatch = [&](size_t i) {
    if (i == chunks.size()) return;
    const Tensor outbox = trip.outbox_to_hosts();
    pack_rows(ctx, rows, saved.route(), chunks[i], outbox);
    trip.send_to_hosts(i, outbox);
  };
  dispatch(0);
  // Meanwhile the shared experts; the output of the routed ones joins theirs.
  const Target y{shared_ ? shared_->forward(ctx, x, saved.shared) : ctx.temporary(ctx.precision.activation, x.shape()), shared_.has_value()};
  experts_.begin_forward(ctx, trip.rows(), saved.experts);
  for (size_t i = 0; i < chunks.size(); ++i) {
    dispatch(i + 1);
    trip.arrive(i);  // rows at their experts: (expert, lane, slot)
    experts_.forward_hidden(ctx, chunks[i], saved.experts);
    const Tensor processed = trip.outbox_home();  // the experts write where the rows leave from
    experts_.forward_output(ctx, chunks[i], saved.experts, processed);
    trip.send_home(i, processed);
  }
  trip.finish();
  saved.payload.way = {};
  trip.measure(saved.payload);
  saved.returned = trip.returned();  // rows back home: (expert, slot)
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

  Trip trip = exchange_.backward_trip(ctx, saved.table, width_, router_.state().payloads());
  // Of gates, or of the mixer's combining weights.
  const Tensor dgate = send_first(ctx, dy, saved, trip);
  const Tensor dshared = shared_ ? shared_->backward(ctx, dy, saved.shared, grads) : Tensor();
  experts_backward(ctx, dy, saved, trip, grads);
  if (mixer_) {
    const Tensor dslots = ctx.temporary(ctx.precision.exact, saved.mixer.slots_out.shape());
    unpack_rows(ctx, trip.returned(), route, Out(dslots));
    mixer_->backward(ctx, dslots, dgate, saved.mixer, grads, Out(sum));
  } else {
    unpack_rows(ctx, trip.returned(), route, Out(sum));
    router_.backward(ctx, dgate, saved.router, grads, Accumulate(sum));
  }
  if (shared_) ctx.backend.convert(Accumulate(sum), dshared);
  if (sum.dtype() != dx.dtype()) ctx.backend.convert(Out(dx), sum);
  return dx;
}

// Chunk 0 leaves for the experts. Answers with the gradient of the gates, or of the mixer's combining weights.
Tensor MoeLayer::send_first(Context& ctx, const Tensor& dy, const Saved& saved, Trip& trip) const {
  const Tensor dreturned = trip.outbox_to_hosts();
  if (mixer_) {
    const Tensor dcombine = mixer_->combine_backward(ctx, dy, saved.route(), saved.mixer, Out(dreturned));
    trip.send_to_hosts(0, dreturned);
    return dcombine;
  }
  weigh_backward(ctx, dy, saved.route(), saved.table.chunks[0], dreturned);
  trip.send_to_hosts(0, dreturned);
  return gate_gradient(ctx, dy, saved.returned, saved.route());
}

// From the arrival of chunk 0 to the gradients of the last chunk's rows, back home.
void MoeLayer::experts_backward(Context& ctx, const Tensor& dy, const Saved& saved, Trip& trip, Gradients& grads) const {
  const Arena::Mark mark(ctx.scratch);
  const std::vector<Chunk>& chunks = saved.table.chunks;
  const Experts::Backward work = experts_.begin_backward(ctx, trip.rows());
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (i + 1 < chunks.size()) {
      const Tensor dreturned = trip.outbox_to_hosts();
      weigh_backward(ctx, dy, saved.route(), chunks[i + 1], dreturned);
      trip.send_to_hosts(i + 1, dreturned);
    }
    trip.arrive(i);
    experts_.backward_hidden(ctx, chunks[i], saved.experts, work);
    const Tensor darrived = trip.outbox_home();
    experts_.backward_input(ctx, chunks[i], work, darrived);
    trip.send_home(i, darrived);
  }
  experts_.backward_weights(ctx, saved.experts, work, grads);  // on whole lanes, while the last rows travel
  trip.finish();
  trip.measure(saved.payload);
}

}  // namespace switchyard
