#include "src/moe/row_table.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "kernels/backend.h"

namespace switchyard {
namespace {

// expert_index() has 22 bits for a slot.
constexpr int64_t kMaxBlockRows = int64_t{1} << 22;

// Cuts what one rank sends to another, counts[e] rows for each of the latter's experts, and calls
// visit(chunk, e, first slot, rows) in order of (e, slot). A panel belongs to the chunk in whose equal share its middle lies.
template <class Visitor>
void cut(std::span<const int32_t> counts, size_t chunks, Visitor visit) {
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  int64_t before = 0;
  for (size_t e = 0; e < counts.size(); ++e) {
    const int64_t count = counts[e];
    const auto panel_end = [count](int64_t slot) { return std::min(count, slot + kRowPanel); };
    const auto chunk_of = [&](int64_t slot) { return static_cast<size_t>((2 * before + slot + panel_end(slot)) * static_cast<int64_t>(chunks) / (2 * total)); };
    for (int64_t slot = 0, end = 0; slot < count; slot = end) {
      const size_t chunk = chunk_of(slot);
      end = panel_end(slot);
      while (end < count && chunk_of(end) == chunk) end = panel_end(end);
      visit(chunk, static_cast<int>(e), slot, end - slot);
    }
    before += count;
  }
}

void place_blocks(RowTable& table) {
  table.count.assign(table.arrived.size(), 0);
  table.offset.assign(table.arrived.size(), 0);
  table.rows = 0;
  for (int copy = 0; copy < table.copies; ++copy) {
    for (int lane = 0; lane < table.lanes; ++lane) {
      const int64_t count = table.arrived[static_cast<size_t>(lane) * static_cast<size_t>(table.copies) + static_cast<size_t>(copy)];
      check(count >= 0 && count <= kMaxBlockRows, "Exchange: a peer announced an impossible number of rows");
      table.count[table.block(copy, lane)] = count;
      table.offset[table.block(copy, lane)] = table.rows;
      table.rows += round_up(count, kRowMultiple);
    }
  }
  table.room = roomy(table.rows);
}

// What this rank sends: runs of entries.
void cut_entries(RowTable& table, std::span<const int32_t> kept, std::span<const ExpertRange> hosted) {
  table.entries = std::accumulate(kept.begin(), kept.end(), int64_t{0});
  for (size_t peer = 0; peer < hosted.size(); ++peer) {
    const auto first = static_cast<size_t>(hosted[peer].first), count = static_cast<size_t>(hosted[peer].count);
    int64_t entry = std::accumulate(kept.begin(), kept.begin() + hosted[peer].first, int64_t{0});
    cut(kept.subspan(first, count), table.chunks.size(), [&](size_t chunk, int, int64_t, int64_t rows) {
      std::vector<Segment>& home = table.chunks[chunk].home;
      if (home.empty() || home.back().peer != static_cast<int>(peer)) home.push_back({static_cast<int>(peer), entry, 0});
      home.back().rows += rows;
      entry += rows;
    });
  }
}

// What arrives here: pieces of blocks.
void cut_rows(RowTable& table) {
  const size_t copies = static_cast<size_t>(table.copies);
  for (int lane = 0; lane < table.lanes; ++lane) {
    const auto counts = std::span(table.arrived).subspan(static_cast<size_t>(lane) * copies, copies);
    cut(counts, table.chunks.size(), [&](size_t chunk, int copy, int64_t slot, int64_t rows) {
      table.chunks[chunk].pieces.push_back({table.expert(copy), table.first_lane + lane, slot, table.offset[table.block(copy, lane)] + slot, rows});
    });
  }
  for (Chunk& chunk : table.chunks) {
    std::sort(chunk.pieces.begin(), chunk.pieces.end(), [](const Piece& a, const Piece& b) { return a.first_row < b.first_row; });
    for (const Piece& piece : chunk.pieces) chunk.host.push_back({static_cast<int>(piece.lane - table.first_lane), piece.first_row, piece.rows});
  }
}

}  // namespace

int64_t roomy(int64_t rows) {
  if (rows <= 4 * kRowMultiple) return rows;
  const int64_t step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(rows)) / 4);
  return round_up(rows, step);
}

void lay_out(RowTable& table, std::span<const int32_t> kept, std::span<const ExpertRange> hosted, int chunks) {
  place_blocks(table);
  table.chunks.resize(static_cast<size_t>(chunks));
  for (Chunk& chunk : table.chunks) {
    chunk.pieces.clear();
    chunk.home.clear();
    chunk.host.clear();
  }
  cut_entries(table, kept, hosted);
  cut_rows(table);
}

}  // namespace switchyard
