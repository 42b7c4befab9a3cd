#include "src/moe/trip.h"

namespace switchyard {

Trip::Trip(Context& ctx, Communicator& communicator, int layer, Names names, Rows rows, Tensor returned)
    : ctx_(ctx), communicator_(communicator), layer_(layer), names_(names), rows_(rows), returned_(returned) {}

Tensor Trip::outbox(int64_t rows) {
  const Span span(ctx_.trace, SpanKind::kAllToAll, "outbox", layer_);
  return communicator_.outbox(OutboxUse::kExchange, rows_.buffer.dtype(), rows, rows_.buffer.columns());
}

Tensor Trip::outbox_to_hosts() { return outbox(table().entries); }

Tensor Trip::outbox_home() { return outbox(table().rows); }

Event Trip::start(const char* name, const Tensor& outbox, const std::vector<Segment>& send, const Tensor& inbox, const std::vector<Segment>& receive) {
  Span span(ctx_.trace, SpanKind::kAllToAll, name, layer_);
  int64_t rows = 0;
  for (const Segment& segment : send) rows += segment.peer == communicator_.rank() ? 0 : segment.rows;
  span.add_bytes(rows * outbox.columns() * size_of(outbox.dtype()));
  return communicator_.all_to_all({name, layer_}, outbox, send, inbox, receive, Event());
}

void Trip::wait(const char* name, Event event) {
  const Span span(ctx_.trace, SpanKind::kAllToAll, name, layer_);
  communicator_.wait(event);
}

void Trip::send_to_hosts(size_t chunk, const Tensor& outbox) {
  const Chunk& part = table().chunks[chunk];
  to_hosts_[chunk % 2] = start(names_.to_hosts, outbox, part.home, rows_.buffer, part.host);
}

void Trip::send_home(size_t chunk, const Tensor& outbox) {
  const Chunk& part = table().chunks[chunk];
  home_[chunk % 2] = start(names_.home, outbox, part.host, returned_, part.home);
}

void Trip::arrive(size_t chunk) {
  wait(names_.to_hosts, to_hosts_[chunk % 2]);
  for (const Piece& piece : table().chunks[chunk].pieces) {
    const int64_t padding = piece.rounded() - piece.rows;
    if (padding > 0) ctx_.backend.zero(Out(rows_.buffer.slice_rows(piece.first_row + piece.rows, padding)));
  }
}

void Trip::finish() {
  for (const Event event : home_) {
    if (event.ticket != 0) wait(names_.home, event);
  }
}

}  // namespace switchyard
