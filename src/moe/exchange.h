// Exchange: moves rows between the ranks where their tokens live and the ranks that host their experts. With the trips that
// it makes, the only part of a model that holds a communicator.
//
// Collectives of one MoE layer and one micro-batch, in this order on every rank, whatever it has to send:
//   forward   "expert counts" where blocks are not of fixed size, then "dispatch" and "combine" of every chunk, in the order of trip.h
//   backward  "combine backward" and "dispatch backward", likewise
// dispatch and combine backward carry rows from home to host, combine and dispatch backward from host to home. Each of
// the two backwards is the adjoint of its forward. Segments place every row where it is needed, in order of (expert,
// slot): nothing is sorted on arrival and nothing is added up, so no sum depends on ranks or chunks.
// Rows that travel compressed arrive with what that costs them; the backwards are then adjoints of the uncompressed ways.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "src/layers/context.h"
#include "src/moe/options.h"
#include "src/moe/route.h"
#include "src/moe/row_table.h"
#include "src/moe/trip.h"

namespace switchyard {

class Exchange {
 public:
  // For MoE layer number `layer` with `experts` experts in all, whose rows travel in `chunks` chunks. Both references outlive
  // the exchange.
  Exchange(Communicator& communicator, const Grid& grid, int layer, int experts, int chunks);

  // Every rank tells every other how many rows come for each of its experts, in the replica that the rank's lane feeds.
  // Fills the table, which outlives the trips. Blocks of fixed size need no telling, and the device need not be waited for.
  void count(Context& ctx, const Route& route, RowTable& table) const;
  // Dispatch and combine of rows [.., columns] activation, which arrive in saved memory. Each way has its form of `payloads`;
  // memory for those that are compressed is scratch.
  Trip forward_trip(Context& ctx, const RowTable& table, int64_t columns, const Payloads& payloads = {}) const;
  // Combine backward and dispatch backward, in scratch memory.
  Trip backward_trip(Context& ctx, const RowTable& table, int64_t columns, const Payloads& payloads = {}) const;

 private:
  void address_counts(int64_t lane, const RowTable& table) const;
  void lay_out_blocks(int64_t lane, const Route& route, RowTable& table) const;

  Communicator& communicator_;
  const Grid& grid_;
  int layer_;
  int experts_;
  int chunks_;
  std::vector<ExpertRange> hosted_;  // [P] copies of each rank
  // Of one call. Members so that their memory is reused; a layer is used by its rank's thread only.
  mutable std::vector<ExpertRange> experts_of_;                  // [P] those of the replica that this rank's lane feeds
  mutable std::vector<Segment> counts_to_peers_, counts_to_me_;  // of the collective "expert counts"
};

// outbox [entries, D]: x[token] of each entry of the chunk. x [T, D].
void pack_rows(Context& ctx, const Tensor& x, const Route& route, const Chunk& chunk, const Tensor& outbox);
// The adjoint: dx[t] (+)= sum of the token's entries, 0 where it has none. entries [entries, D], dx [T, D] exact.
void unpack_rows(Context& ctx, const Tensor& entries, const Route& route, Target dx);

// The largest outbox that an exchange asks for with micro-batches of `sequences` sequences, whose tokens are `width`
// numbers of `dtype` or payloads of them, in training and at evaluation: OutboxSizes::exchange_bytes. Without drops one
// rank may have to return the rows of all. Of any rank of the grid.
int64_t exchange_bytes(const MoeOptions& options, int64_t sequences, int64_t sequence_length, int64_t width, const Grid& grid, Dtype dtype);

}  // namespace switchyard
