// RowTable: where the rows of one MoE layer and one micro-batch of every lane in flight lie, at home and at the experts,
// and in which parts they travel. Valid from the exchange of counts on; backward travels by the table of the forward.
//
// What one rank sends to another is sorted by (expert, slot) and divided into chunks, about equal in rows, each a run of it.
// An expert's rows are cut at multiples of kRowPanel only, so that no product has other bits than that of all its rows. Both
// sides know the counts and find the same cuts. A chunk of some pair, or of all, may be empty.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "kernels/tensor.h"
#include "src/base/checked.h"

namespace switchyard {

// Row blocks start at multiples of this and products read whole multiples of it, so that products' shapes are few.
inline constexpr int64_t kRowMultiple = 16;

// Rows to take memory for where `rows` are there: four sizes an octave, so that buffers whose rows change from step to
// step ask the arena for few different sizes.
int64_t roomy(int64_t rows);

// Rows of one expert from one lane, or those of them that one chunk has.
struct Piece {
  int expert = 0;          // of the layer's E
  int64_t lane = 0;        // of the step's
  int64_t first_slot = 0;  // a multiple of kRowPanel
  int64_t first_row = 0;   // in a buffer of rows
  int64_t rows = 0;        // without those that round up

  int64_t rounded() const { return round_up(rows, kRowMultiple); }
};

struct Chunk {
  std::vector<Piece> pieces;  // at this rank's experts, in order of (expert, lane)
  std::vector<Segment> home;  // runs of entries, at most one per peer
  std::vector<Segment> host;  // runs of rows, one per piece
};

// Calls visit_rows(first row, rows) for runs of neighbouring pieces, rounded up.
template <class Visitor>
void for_each_run(const Chunk& chunk, Visitor visit_rows) {
  int64_t first = 0, end = 0;
  for (const Piece& piece : chunk.pieces) {
    if (piece.first_row != end) {
      if (end > first) visit_rows(first, end - first);
      first = piece.first_row;
    }
    end = piece.first_row + piece.rounded();
  }
  if (end > first) visit_rows(first, end - first);
}

// Blocks of rows belong to copies of experts (comm/grid.h), which with one replica are the experts.
struct RowTable {
  int experts = 0;         // E
  int first_copy = 0;      // the copies that this rank hosts
  int copies = 0;          // e; 0 where it hosts none
  int64_t first_lane = 0;  // the lanes in flight: one per rank, those beyond the last lane send no rows
  int lanes = 0;
  std::vector<int32_t> arrived;  // [lanes, e], as the counts arrive; 0 where the lane feeds another replica
  std::vector<int64_t> count;    // [e, lanes] rows of one copy from one lane
  std::vector<int64_t> offset;   // [e, lanes] first row of that block, a multiple of kRowMultiple
  int64_t rows = 0;              // of a buffer, rows of blocks rounded up
  int64_t room = 0;              // rows to take memory for: at least `rows`, in few different sizes
  int64_t entries = 0;           // rows at home
  std::vector<Chunk> chunks;     // as many on every rank

  size_t block(int copy, int lane) const { return static_cast<size_t>(copy) * static_cast<size_t>(lanes) + static_cast<size_t>(lane); }
  int expert(int copy) const { return (first_copy + copy) % experts; }
  int replica(int copy) const { return (first_copy + copy) / experts; }
};

// From counts to places. `kept` [E]: this rank's rows for each expert; `hosted` [P]: the experts at each rank of the replica
// that this rank's lane feeds.
void lay_out(RowTable& table, std::span<const int32_t> kept, std::span<const ExpertRange> hosted, int chunks);

// Rows at their experts: [table.rows, D]. Rows of a block beyond its count are zero where they come from home; those
// that are on their way home may hold anything there, for they are not sent.
struct Rows {
  Tensor buffer;
  const RowTable* table = nullptr;
};

}  // namespace switchyard
