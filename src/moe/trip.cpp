#include "src/moe/trip.h"

#include <algorithm>

namespace switchyard {

Trip::Trip(Context& ctx, Communicator& communicator, int layer, Leg to_hosts, Leg home, Rows rows, Tensor returned)
    : ctx_(ctx), communicator_(communicator), layer_(layer), rows_(rows), returned_(returned), to_hosts_{to_hosts}, home_{home} {
  const int64_t entries = table().entries, words = payload_words(rows.buffer.columns());
  const auto prepare = [&](Path& path, int64_t room, int64_t arriving) {
    if (!path.compressed()) return;
    path.inbox = ctx.temporary(Dtype::kI32, {room, words}).slice_rows(0, arriving);
    path.norms = ctx.temporary(Dtype::kF32, {entries, 2});
  };
  prepare(to_hosts_, table().room, table().rows);
  prepare(home_, entries, entries);
  if (to_hosts_.compressed() || home_.compressed()) leaving_ = ctx.temporary(rows.buffer.dtype(), {std::max(entries, table().room), rows.buffer.columns()});
}

Tensor Trip::outbox(Dtype dtype, int64_t rows, int64_t columns) {
  const Span span(ctx_.trace, SpanKind::kAllToAll, "outbox", layer_);
  return communicator_.outbox(OutboxUse::kExchange, dtype, rows, columns);
}

Tensor Trip::room_for(const Path& path, int64_t rows) {
  return path.compressed() ? leaving_.slice_rows(0, rows) : outbox(rows_.buffer.dtype(), rows, rows_.buffer.columns());
}

Tensor Trip::outbox_to_hosts() { return room_for(to_hosts_, table().entries); }

Tensor Trip::outbox_home() { return room_for(home_, table().rows); }

Event Trip::start(Way way, const Tensor& outbox, const std::vector<Segment>& send, const Tensor& inbox, const std::vector<Segment>& receive) {
  Span span(ctx_.trace, SpanKind::kAllToAll, name(way), layer_);
  int64_t rows = 0;
  for (const Segment& segment : send) rows += segment.peer == communicator_.rank() ? 0 : segment.rows;
  span.add_bytes(rows * outbox.columns() * size_of(outbox.dtype()));
  return communicator_.all_to_all({name(way), layer_}, outbox, send, inbox, receive, Event());
}

void Trip::wait(Way way, Event event) {
  const Span span(ctx_.trace, SpanKind::kAllToAll, name(way), layer_);
  communicator_.wait(event);
}

void Trip::send_to_hosts(size_t chunk, const Tensor& rows) {
  const Chunk& part = table().chunks[chunk];
  Tensor leaving = rows;
  if (to_hosts_.compressed()) {
    leaving = outbox(Dtype::kI32, table().entries, to_hosts_.inbox.columns());
    const Span span(ctx_.trace, SpanKind::kCompute, "payload", layer_);
    for (const Segment& run : part.home) {
      const auto here = [&run](const Tensor& x) { return x.slice_rows(run.first_row, run.rows); };
      ctx_.backend.quantise(Out(here(leaving)), Out(here(to_hosts_.norms)), here(rows), to_hosts_.leg.format);
    }
  }
  to_hosts_.events[chunk % 2] = start(to_hosts_.leg.way, leaving, part.home, to_hosts_.compressed() ? to_hosts_.inbox : rows_.buffer, part.host);
}

void Trip::send_home(size_t chunk, const Tensor& rows) {
  const Chunk& part = table().chunks[chunk];
  Tensor leaving = rows;
  if (home_.compressed()) {
    leaving = outbox(Dtype::kI32, table().rows, home_.inbox.columns());
    const Span span(ctx_.trace, SpanKind::kCompute, "payload", layer_);
    for_each_run(part, [&](int64_t first, int64_t count) {
      ctx_.backend.quantise(Out(leaving.slice_rows(first, count)), Out(Tensor()), rows.slice_rows(first, count), home_.leg.format);
    });
  }
  home_.events[chunk % 2] = start(home_.leg.way, leaving, part.host, home_.compressed() ? home_.inbox : returned_, part.home);
}

void Trip::arrive(size_t chunk) {
  wait(to_hosts_.leg.way, to_hosts_.events[chunk % 2]);
  const Chunk& part = table().chunks[chunk];
  if (to_hosts_.compressed()) {
    const Span span(ctx_.trace, SpanKind::kCompute, "payload", layer_);
    for_each_run(part, [&](int64_t first, int64_t count) {
      ctx_.backend.dequantise(Out(rows_.buffer.slice_rows(first, count)), Out(Tensor()), to_hosts_.inbox.slice_rows(first, count), to_hosts_.leg.format);
    });
  }
  for (const Piece& piece : part.pieces) {
    const int64_t padding = piece.rounded() - piece.rows;
    if (padding > 0) ctx_.backend.zero(Out(rows_.buffer.slice_rows(piece.first_row + piece.rows, padding)));
  }
}

void Trip::finish() {
  for (const Event event : home_.events) {
    if (event.ticket != 0) wait(home_.leg.way, event);
  }
  if (!home_.compressed()) return;
  const Span span(ctx_.trace, SpanKind::kCompute, "payload", layer_);
  ctx_.backend.dequantise(Out(returned_), Out(home_.norms), home_.inbox, home_.leg.format);
}

void Trip::measure(PayloadLosses& losses) const {
  for (const Path* path : {&to_hosts_, &home_}) {
    if (!path->compressed()) continue;
    losses.norms.resize(static_cast<size_t>(path->norms.elements()));
    ctx_.backend.copy_to_host(path->norms, losses.norms.data());
    PayloadLoss& loss = losses.way[static_cast<size_t>(path->leg.way)];
    for (size_t i = 0; i < losses.norms.size(); i += 2) {
      const double lost = static_cast<double>(losses.norms[i]), sent = static_cast<double>(losses.norms[i + 1]);
      loss.lost += lost * lost;
      loss.sent += sent * sent;
    }
  }
}

}  // namespace switchyard
