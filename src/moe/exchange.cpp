#include "src/moe/exchange.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "src/base/checked.h"
#include "src/moe/capacity.h"

namespace switchyard {
namespace {

// expert_index() has 22 bits for a slot.
constexpr int64_t kMaxBlockRows = int64_t{1} << 22;

}  // namespace

int64_t roomy(int64_t rows) {
  if (rows <= 4 * kRowMultiple) return rows;
  const int64_t step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(rows)) / 4);
  return round_up(rows, step);
}

Exchange::Exchange(Communicator& communicator, const Grid& grid, int layer, int experts)
    : communicator_(communicator), grid_(grid), layer_(layer), experts_(experts) {
  check(communicator.rank() == grid.rank() && communicator.size() == grid.size(), "Exchange: communicator and grid differ");
  for (int rank = 0; rank < grid.size(); ++rank) hosted_.push_back(grid.hosted(layer, rank, experts));
}

Rows Exchange::dispatch(Context& ctx, const Tensor& x, const Route& route, RowTable& table) const {
  exchange_counts(ctx, route, table);
  lay_out(route, table);
  const Tensor outbox = entries_outbox(ctx, table, x.columns());
  ctx.backend.gather_rows(Out(outbox), x, route.token.slice_rows(0, route.entries).reshape({route.entries, 1}), Tensor());
  const Rows arrived{ctx.keep(x.dtype(), {table.room, x.columns()}).slice_rows(0, table.rows), &table};
  travel_to_hosts(ctx, "dispatch", outbox, arrived);
  return arrived;
}

Tensor Exchange::combine(Context& ctx, const Rows& processed) const {
  const Tensor returned = ctx.keep(processed.buffer.dtype(), {processed.table->entries, processed.buffer.columns()});
  travel_home(ctx, "combine", processed, returned);
  return returned;
}

Rows Exchange::combine_backward(Context& ctx, const Tensor& dreturned, const RowTable& table) const {
  const Rows dprocessed{ctx.temporary(dreturned.dtype(), {table.room, dreturned.columns()}).slice_rows(0, table.rows), &table};
  travel_to_hosts(ctx, "combine backward", dreturned, dprocessed);
  return dprocessed;
}

void Exchange::dispatch_backward(Context& ctx, const Rows& darrived, const Route& route, Target dx) const {
  const Arena::Mark mark(ctx.scratch);
  const Tensor entries = ctx.temporary(darrived.buffer.dtype(), {route.entries, darrived.buffer.columns()});
  travel_home(ctx, "dispatch backward", darrived, entries);
  ctx.backend.gather_rows(dx, entries, route.position, Tensor());
}

Tensor Exchange::entries_outbox(Context& ctx, const RowTable& table, int64_t columns) const {
  const Span span(ctx.trace, SpanKind::kAllToAll, "outbox", layer_);
  return communicator_.outbox(OutboxUse::kExchange, ctx.precision.activation, table.entries, columns);
}

Rows Exchange::rows_outbox(Context& ctx, const RowTable& table, int64_t columns) const {
  const Span span(ctx.trace, SpanKind::kAllToAll, "outbox", layer_);
  return {communicator_.outbox(OutboxUse::kExchange, ctx.precision.activation, table.rows, columns), &table};
}

// Every rank tells every other how many rows come for each of its experts. Fills table.arrived.
void Exchange::exchange_counts(Context& ctx, const Route& route, RowTable& table) const {
  Span span(ctx.trace, SpanKind::kAllToAll, "expert counts", layer_);
  table.lanes = grid_.size();
  table.first_expert = first_expert();
  table.experts = hosted_experts();
  table.first_lane = grid_.lane_in_flight(static_cast<int>(ctx.key.lane), 0);
  table.arrived.assign(static_cast<size_t>(table.lanes) * static_cast<size_t>(table.experts), 0);
  table.home.clear();
  table.host.clear();
  for (int peer = 0; peer < grid_.size(); ++peer) {
    const ExpertRange& range = hosted_[static_cast<size_t>(peer)];
    if (range.count > 0) table.home.push_back({peer, range.first, range.count});
    if (table.experts > 0) table.host.push_back({peer, int64_t{peer} * table.experts, table.experts});
  }
  const Tensor outbox = communicator_.outbox(OutboxUse::kExchange, Dtype::kI32, experts_, 1);
  std::memcpy(outbox.data(), route.kept_on_host.data(), static_cast<size_t>(outbox.bytes()));
  const Tensor inbox(table.arrived.data(), Dtype::kI32, {static_cast<int64_t>(table.arrived.size()), 1});
  communicator_.wait(communicator_.all_to_all({"expert counts", layer_}, outbox, table.home, inbox, table.host, Event()));
  span.add_bytes(bytes_to_peers(table.home, outbox));
}

// From counts to places: of blocks here, and of the runs of entries that go to each peer.
void Exchange::lay_out(const Route& route, RowTable& table) const {
  table.count.assign(table.arrived.size(), 0);
  table.offset.assign(table.arrived.size(), 0);
  table.rows = 0;
  table.host.clear();
  for (int expert = 0; expert < table.experts; ++expert) {
    for (int lane = 0; lane < table.lanes; ++lane) {
      const int64_t count = table.arrived[static_cast<size_t>(lane) * static_cast<size_t>(table.experts) + static_cast<size_t>(expert)];
      check(count >= 0 && count <= kMaxBlockRows, "Exchange: a peer announced an impossible number of rows");
      table.count[table.block(expert, lane)] = count;
      table.offset[table.block(expert, lane)] = table.rows;
      if (count > 0) table.host.push_back({lane, table.rows, count});
      table.rows += round_up(count, kRowMultiple);
    }
  }
  table.room = roomy(table.rows);
  table.home.clear();
  table.entries = 0;
  for (int peer = 0; peer < grid_.size(); ++peer) {
    const ExpertRange& range = hosted_[static_cast<size_t>(peer)];
    int64_t rows = 0;
    for (int expert = range.first; expert < range.first + range.count; ++expert) rows += route.kept_on_host[static_cast<size_t>(expert)];
    if (rows > 0) table.home.push_back({peer, table.entries, rows});
    table.entries += rows;
  }
  check(table.entries == route.entries, "Exchange: the route's entries are not the sum of its counts");
}

Event Exchange::start_to_hosts(const char* name, const Tensor& outbox, const Rows& rows) const {
  return communicator_.all_to_all({name, layer_}, outbox, rows.table->home, rows.buffer, rows.table->host, Event());
}

Event Exchange::start_to_home(const char* name, const Rows& outbox, const Tensor& entries) const {
  return communicator_.all_to_all({name, layer_}, outbox.buffer, outbox.table->host, entries, outbox.table->home, Event());
}

void Exchange::travel_to_hosts(Context& ctx, const char* name, const Tensor& outbox, const Rows& rows) const {
  const RowTable& table = *rows.table;
  {
    Span span(ctx.trace, SpanKind::kAllToAll, name, layer_);
    communicator_.wait(start_to_hosts(name, outbox, rows));
    span.add_bytes(bytes_to_peers(table.home, outbox));
  }
  for (const Segment& block : table.host) {
    const int64_t padding = round_up(block.rows, kRowMultiple) - block.rows;
    if (padding > 0) ctx.backend.zero(Out(rows.buffer.slice_rows(block.first_row + block.rows, padding)));
  }
}

void Exchange::travel_home(Context& ctx, const char* name, const Rows& outbox, const Tensor& entries) const {
  Span span(ctx.trace, SpanKind::kAllToAll, name, layer_);
  communicator_.wait(start_to_home(name, outbox, entries));
  span.add_bytes(bytes_to_peers(outbox.table->host, outbox.buffer));
}

int64_t Exchange::bytes_to_peers(const std::vector<Segment>& segments, const Tensor& tensor) const {
  int64_t rows = 0;
  for (const Segment& segment : segments) rows += segment.peer == grid_.rank() ? 0 : segment.rows;
  return rows * tensor.columns() * size_of(tensor.dtype());
}

namespace {

// Of one outbox at most.
int64_t most_rows(const MoeOptions& options, int64_t sequences, int64_t sequence_length, int ranks) {
  const int64_t hosted = divide_up(options.experts, ranks);
  if (options.router == RouterKind::kSoft) {  // every slot travels
    const int64_t of_expert = checked_multiply(sequences, options.soft_slots);
    return std::max(checked_multiply(options.experts, of_expert), checked_multiply(ranks, checked_multiply(hosted, round_up(of_expert, kRowMultiple))));
  }
  const int64_t tokens = checked_multiply(sequences, sequence_length);
  const int64_t group = group_tokens_of(options, tokens);
  const int64_t groups = divide_up(tokens, group);
  int64_t rows = 0;
  for (const bool training : {true, false}) {
    const int64_t of_expert = std::min(checked_multiply(groups, capacity(options, group, training)), tokens);  // from one lane
    // Home to host: every entry of every token, or every expert full.
    rows = std::max(rows, std::min(checked_multiply(tokens, entries_of(options)), checked_multiply(options.experts, of_expert)));
    // Host to home, of one lane: every expert's block full, or every entry that can be here and every block padded.
    const int64_t entries = checked_multiply(tokens, std::min(entries_of(options), hosted));
    const int64_t of_lane =
        std::min(checked_multiply(hosted, round_up(of_expert, kRowMultiple)), checked_add(entries, checked_multiply(hosted, kRowMultiple - 1)));
    rows = std::max(rows, checked_multiply(ranks, of_lane));
  }
  return rows;
}

}  // namespace

int64_t exchange_bytes(const MoeOptions& options, int64_t sequences, int64_t sequence_length, int64_t width, int ranks, Dtype dtype) {
  const int64_t rows = most_rows(options, sequences, sequence_length, ranks);
  const int64_t counts = checked_multiply(options.experts, size_of(Dtype::kI32));
  return std::max(counts, checked_multiply(checked_multiply(rows, width), size_of(dtype)));
}

}  // namespace switchyard
