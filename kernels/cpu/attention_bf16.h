// What both directions of attention in BF16 share: the cut into tiles of queries, and the packing of a head's operands.
#pragma once

#include <cstring>

#include "kernels/cpu/attention.h"

namespace switchyard::cpu {

inline constexpr int64_t kTileQueries = 128;
inline constexpr int64_t kKeyStep = 64;  // keys of a tile are rounded up to a multiple of it

// A run of queries of one head and the keys that they may see.
struct Tile {
  int64_t first, queries, padded_queries;  // padded to a multiple of 32
  int64_t keys;                            // visible ones end before it
  int64_t padded_keys;
};

inline Tile tile_of(const AttentionShape& s, int64_t index) {
  Tile tile{};
  tile.first = index * kTileQueries;
  tile.queries = std::min(kTileQueries, s.queries - tile.first);
  tile.padded_queries = round_up(tile.queries, 32);
  const int64_t end = s.first_position + tile.first + tile.queries;
  tile.keys = s.causal ? std::min(s.keys, std::max<int64_t>(end, 1)) : s.keys;
  tile.padded_keys = round_up(tile.keys, kKeyStep);
  return tile;
}
inline int64_t tiles_of(const AttentionShape& s) { return divide_up(s.queries, kTileQueries); }

// Rows of a head as the first operand of a product: dense, `padded` rows, zeros beyond.
inline void copy_rows(const Loops& loops, char* to, Dtype dtype, const HeadRows& from, int64_t width, int64_t padded) {
  const int64_t row_bytes = width * size_of(dtype);
  for (int64_t r = 0; r < from.rows; ++r) loops.convert(to + r * row_bytes, dtype, from.data + r * from.stride * size_of(from.dtype), from.dtype, width, false);
  std::memset(to + from.rows * row_bytes, 0, static_cast<size_t>((padded - from.rows) * row_bytes));
}

// Rows of a head as the second operand: B [rows, width] or, transposed, B [width, rows].
inline void pack_rows(const Loops& loops, char* to, const PackLayout& layout, const HeadRows& from, bool rows_are_k) {
  loops.pack({&layout, to, from.data, from.dtype, from.stride, from.rows, rows_are_k, false, 0, layout.n});
}

// True if the operand packed as `whole` holds the one that `part` asks for in its first bytes.
inline bool is_prefix(const PackLayout& part, const PackLayout& whole) {
  if (part.blocked != whole.blocked || part.n_block != whole.n_block || part.interleave != whole.interleave) return false;
  if (part.n == whole.n && part.k == whole.k) return true;
  if (part.n == whole.n) return !part.blocked || part.n <= part.n_block;
  return part.blocked && part.k == whole.k && part.n % part.n_block == 0;
}

}  // namespace switchyard::cpu
