#include "src/moe/exchange.h"

#include <algorithm>
#include <cstring>

#include "src/base/checked.h"
#include "src/moe/capacity.h"

namespace switchyard {

Exchange::Exchange(Communicator& communicator, const Grid& grid, int layer, int experts, int chunks)
    : communicator_(communicator), grid_(grid), layer_(layer), experts_(experts), chunks_(chunks) {
  check(communicator.rank() == grid.rank() && communicator.size() == grid.size(), "Exchange: communicator and grid differ");
  check(chunks > 0, "Exchange: expected at least one chunk");
  for (int rank = 0; rank < grid.size(); ++rank) hosted_.push_back(grid.hosted(layer, rank, experts));
}

void Exchange::count(Context& ctx, const Route& route, RowTable& table) const {
  Span span(ctx.trace, SpanKind::kAllToAll, "expert counts", layer_);
  const ExpertRange& own = hosted_[static_cast<size_t>(grid_.rank())];
  table.lanes = grid_.size();
  table.experts = experts_;
  table.first_copy = own.first;
  table.copies = own.count;
  table.first_lane = grid_.lane_in_flight(static_cast<int>(ctx.key.lane), 0);
  table.arrived.assign(static_cast<size_t>(table.lanes) * static_cast<size_t>(table.copies), 0);
  address_counts(ctx.key.lane, table);
  if (route.block > 0) return lay_out_blocks(ctx.key.lane, route, table);
  Communicator& host = communicator_.host();
  const Tensor outbox = host.outbox(OutboxUse::kExchange, Dtype::kI32, experts_, 1);
  std::memcpy(outbox.data(), route.listed.data(), static_cast<size_t>(outbox.bytes()));
  const Tensor inbox(table.arrived.data(), Dtype::kI32, {static_cast<int64_t>(table.arrived.size()), 1});
  host.wait(host.all_to_all({"expert counts", layer_}, outbox, counts_to_peers_, inbox, counts_to_me_, Event()));
  span.add_bytes((experts_ - experts_of_[static_cast<size_t>(grid_.rank())].count) * size_of(Dtype::kI32));
  lay_out(table, route.listed, experts_of_, chunks_);
  check(table.entries == route.entries, "Exchange: the route's entries are not the sum of its counts");
}

// Every lane feeds each expert of its replica with one block; those beyond the last lane have none.
void Exchange::lay_out_blocks(int64_t lane, const Route& route, RowTable& table) const {
  for (const Segment& from : counts_to_me_) {
    const bool exists = table.first_lane + from.peer < grid_.lanes();
    std::fill_n(table.arrived.begin() + from.first_row, from.rows, exists ? static_cast<int32_t>(route.block) : 0);
  }
  if (lane < grid_.lanes()) return lay_out(table, route.listed, experts_of_, chunks_);
  lay_out(table, std::vector<int32_t>(static_cast<size_t>(experts_), 0), experts_of_, chunks_);
}

// Counts leave by expert and arrive by copy: each peer's for the replica that its lane feeds.
void Exchange::address_counts(int64_t lane, const RowTable& table) const {
  experts_of_.clear();
  counts_to_peers_.clear();
  counts_to_me_.clear();
  for (int peer = 0; peer < grid_.size(); ++peer) {
    const ExpertRange there = Grid::of_replica(hosted_[static_cast<size_t>(peer)], grid_.replica(lane), experts_);
    experts_of_.push_back(there);
    if (there.count > 0) counts_to_peers_.push_back({peer, there.first, there.count});
    const int replica = grid_.replica(table.first_lane + peer);
    const ExpertRange here = Grid::of_replica(hosted_[static_cast<size_t>(grid_.rank())], replica, experts_);
    const int64_t copy = int64_t{replica} * experts_ + here.first - table.first_copy;
    if (here.count > 0) counts_to_me_.push_back({peer, int64_t{peer} * table.copies + copy, here.count});
  }
}

namespace {

Trip::Leg leg(Way way, const Payloads& payloads) { return {way, payloads[static_cast<size_t>(way)]}; }

}  // namespace

Trip Exchange::forward_trip(Context& ctx, const RowTable& table, int64_t columns, const Payloads& payloads) const {
  const Dtype activation = ctx.precision.activation;
  const Rows arrived{ctx.keep(activation, {table.room, columns}).slice_rows(0, table.rows), &table};
  const Tensor returned = ctx.keep(activation, {table.entries, columns});
  return Trip(ctx, communicator_, layer_, leg(Way::kDispatch, payloads), leg(Way::kCombine, payloads), arrived, returned);
}

Trip Exchange::backward_trip(Context& ctx, const RowTable& table, int64_t columns, const Payloads& payloads) const {
  const Dtype activation = ctx.precision.activation;
  const Rows arrived{ctx.temporary(activation, {table.room, columns}).slice_rows(0, table.rows), &table};
  const Tensor returned = ctx.temporary(activation, {table.entries, columns});
  return Trip(ctx, communicator_, layer_, leg(Way::kCombineBackward, payloads), leg(Way::kDispatchBackward, payloads), arrived, returned);
}

void pack_rows(Context& ctx, const Tensor& x, const Route& route, const Chunk& chunk, const Tensor& outbox) {
  for (const Segment& run : chunk.home) {
    const Tensor token = route.token.slice_rows(run.first_row, run.rows).reshape({run.rows, 1});
    ctx.backend.gather_rows(Out(outbox.slice_rows(run.first_row, run.rows)), x, token, Tensor());
  }
}

void unpack_rows(Context& ctx, const Tensor& entries, const Route& route, Target dx) { ctx.backend.gather_rows(dx, entries, route.position, Tensor()); }

namespace {

// Of one outbox at most.
int64_t most_rows(const MoeOptions& options, int64_t sequences, int64_t sequence_length, const Grid& grid) {
  if (options.router == RouterKind::kSoft) {  // every slot travels
    const int64_t of_expert = checked_multiply(sequences, options.soft_slots);
    const auto of_lane = [&](int64_t hosted) { return checked_multiply(hosted, round_up(of_expert, kRowMultiple)); };
    return std::max(checked_multiply(options.experts, of_expert), grid.most_in_flight(0, options.experts, of_lane));
  }
  const int64_t tokens = checked_multiply(sequences, sequence_length);
  const int64_t group = group_tokens_of(options, tokens);
  const int64_t groups = divide_up(tokens, group);
  int64_t rows = 0;
  for (const bool training : {true, false}) {
    const bool fixed = training && options.fixed_block > 0;
    const int64_t of_expert = fixed ? options.fixed_block : std::min(checked_multiply(groups, capacity(options, group, training)), tokens);  // from one lane
    // Home to host: every entry of every token, or every expert full.
    const int64_t full = checked_multiply(options.experts, of_expert);
    rows = std::max(rows, fixed ? full : std::min(checked_multiply(tokens, entries_of(options)), full));
    // Host to home, of one lane: every expert's block full, or every entry that can be here and every block padded.
    const auto of_lane = [&](int64_t hosted) {
      if (fixed) return checked_multiply(hosted, round_up(of_expert, kRowMultiple));
      const int64_t entries = checked_multiply(tokens, std::min(entries_of(options), hosted));
      return std::min(checked_multiply(hosted, round_up(of_expert, kRowMultiple)), checked_add(entries, checked_multiply(hosted, kRowMultiple - 1)));
    };
    rows = std::max(rows, grid.most_in_flight(0, options.experts, of_lane));
  }
  return rows;
}

}  // namespace

int64_t exchange_bytes(const MoeOptions& options, int64_t sequences, int64_t sequence_length, int64_t width, const Grid& grid, Dtype dtype) {
  const int64_t rows = most_rows(options, sequences, sequence_length, grid);
  const int64_t counts = checked_multiply(options.experts, size_of(Dtype::kI32));
  return std::max(counts, checked_multiply(rows, options.payload.row_bytes(width, dtype)));
}

}  // namespace switchyard
