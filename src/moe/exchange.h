// Exchange: moves rows between the ranks where their tokens live and the ranks that host their experts. The only part of
// a model that holds a communicator.
//
// Collectives of one MoE layer and one micro-batch, in this order on every rank, whatever it has to send:
//   forward   "expert counts", "dispatch", "combine"
//   backward  "combine backward", "dispatch backward"
// dispatch and combine backward carry rows from home to host, combine and dispatch backward from host to home. Each of
// the two backwards is the adjoint of its forward. Segments place every row where it is needed, in order of (expert,
// slot): nothing is sorted on arrival and nothing is added up, so no sum depends on ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "src/layers/context.h"
#include "src/moe/options.h"
#include "src/moe/route.h"

namespace switchyard {

// Row blocks start at multiples of this and products read whole multiples of it, so that products' shapes are few.
inline constexpr int64_t kRowMultiple = 16;

// Rows to take memory for where `rows` are there: four sizes an octave, so that buffers whose rows change from step to
// step ask the arena for few different sizes.
int64_t roomy(int64_t rows);

// Where the rows of one micro-batch of every lane in flight lie: in the list of entries at home, sorted by (expert,
// slot), and in the buffers of this rank's experts. Valid from dispatch on; backward travels by the same table.
struct RowTable {
  int first_expert = 0;    // the experts that this rank hosts
  int experts = 0;         // e; 0 where it hosts none
  int64_t first_lane = 0;  // the lanes in flight: one per rank, those beyond the last lane send no rows
  int lanes = 0;
  std::vector<int32_t> arrived;  // [lanes, e], as the counts arrive
  std::vector<int64_t> count;    // [e, lanes] rows of one expert from one lane
  std::vector<int64_t> offset;   // [e, lanes] first row of that block, a multiple of kRowMultiple
  int64_t rows = 0;              // of a buffer, rows of blocks rounded up
  int64_t room = 0;              // rows to take memory for: at least `rows`, in few different sizes
  int64_t entries = 0;           // rows at home
  std::vector<Segment> home;     // one per peer with rows: runs of entries
  std::vector<Segment> host;     // one per block with rows, in order of (expert, lane)

  size_t block(int expert, int lane) const { return static_cast<size_t>(expert) * static_cast<size_t>(lanes) + static_cast<size_t>(lane); }
};

// Rows at their experts: [table.rows, D]. Rows of a block beyond its count are zero where they come from home; those
// that are on their way home may hold anything there, for they are not sent.
struct Rows {
  Tensor buffer;
  const RowTable* table = nullptr;
};

class Exchange {
 public:
  // For MoE layer number `layer` with `experts` experts in all. Both references outlive the exchange.
  Exchange(Communicator& communicator, const Grid& grid, int layer, int experts);

  int first_expert() const { return hosted_[static_cast<size_t>(grid_.rank())].first; }
  int hosted_experts() const { return hosted_[static_cast<size_t>(grid_.rank())].count; }

  // x [T, D] activation -> rows at the experts, in saved memory. Fills `table`, which outlives the rows.
  Rows dispatch(Context& ctx, const Tensor& x, const Route& route, RowTable& table) const;
  // processed: what rows_outbox gave, filled -> [entries, D] activation, in saved memory, sorted by (expert, slot).
  Tensor combine(Context& ctx, const Rows& processed) const;

  // dreturned: what entries_outbox gave, filled -> rows at the experts, in scratch memory.
  Rows combine_backward(Context& ctx, const Tensor& dreturned, const RowTable& table) const;
  // darrived: what rows_outbox gave, filled. dx [T, D] exact: the sum of each token's rows, 0 where it has none,
  // replaces or is added to what is there.
  void dispatch_backward(Context& ctx, const Rows& darrived, const Route& route, Target dx) const;

  // Room for rows that leave, in the communicator's outbox: valid until the next transfer has started. Nothing of it may
  // be saved.
  Tensor entries_outbox(Context& ctx, const RowTable& table, int64_t columns) const;  // [entries, D]: home to host
  Rows rows_outbox(Context& ctx, const RowTable& table, int64_t columns) const;       // [rows, D]: host to home

 private:
  void exchange_counts(Context& ctx, const Route& route, RowTable& table) const;
  void lay_out(const Route& route, RowTable& table) const;
  Event start_to_hosts(const char* name, const Tensor& outbox, const Rows& rows) const;
  Event start_to_home(const char* name, const Rows& outbox, const Tensor& entries) const;
  void travel_to_hosts(Context& ctx, const char* name, const Tensor& outbox, const Rows& rows) const;
  void travel_home(Context& ctx, const char* name, const Rows& outbox, const Tensor& entries) const;
  int64_t bytes_to_peers(const std::vector<Segment>& segments, const Tensor& tensor) const;

  Communicator& communicator_;
  const Grid& grid_;
  int layer_;
  int experts_;
  std::vector<ExpertRange> hosted_;  // [P]
};

// The largest outbox that an exchange asks for with micro-batches of `sequences` sequences, whose tokens are `width`
// numbers of `dtype`, in training and at evaluation: OutboxSizes::exchange_bytes. Without drops one rank may have to return
// the rows of all.
int64_t exchange_bytes(const MoeOptions& options, int64_t sequences, int64_t sequence_length, int64_t width, int ranks, Dtype dtype);

}  // namespace switchyard
