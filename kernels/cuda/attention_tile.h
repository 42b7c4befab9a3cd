// What attention's kernels share: the extents that a launch is told, and tiles of 64 x 64 scores.
//
// The 256 threads of a block stand 16 x 16 before a tile and have 4 x 4 of it each, in registers. Operands pass through shared
// memory in slices, transposed, so that a thread reads what it needs for 16 products in two vector loads:
//   scores: patch[i][j] += sum over c of rows[i][c] * columns[j][c]            add_products, slices along the width
//   sums:   sums[i][c]  += sum over n of weights[n][i] * rows[n][c]            add_weighted, slices along the tile
// Every element has one owner and adds up in the order of the index. Indices outside a tensor count as zeros.
#pragma once

#include <limits>
#include <type_traits>

#include "kernels/cuda/support.h"

namespace switchyard::cuda::attention {

inline constexpr int kTile = 64;
inline constexpr int kPatch = 4;
inline constexpr int kSlice = 32;  // of an inner extent, in shared memory at a time
inline constexpr int64_t kWidest = 256;
inline constexpr int64_t kLongestStride = int64_t{1} << 24;
inline constexpr float kHidden = -std::numeric_limits<float>::infinity();  // the score of a key that is not visible

struct Extents {
  int64_t batch, queries, keys, key_stride, heads, first_position;
  int64_t q_stride, k_stride, v_stride, out_stride;  // elements from row to row
  int width;
  bool causal;
  float scale;
};

// Checks what both ways are given.
Extents extents_of(const AttentionInputs& in, const AttentionShape& shape);

inline void check_stride(const Tensor& x) { check(x.row_stride() <= kLongestStride, "attention: the device has no rows of more than 2^24 elements"); }

__host__ __device__ inline int64_t tiles_of(int64_t rows) { return (rows + kTile - 1) / kTile; }

// A block for each.
inline dim3 blocks_of(int64_t tiles) {
  check(tiles <= std::numeric_limits<int>::max(), "attention: more tiles than a grid has blocks");
  return dim3(static_cast<unsigned>(tiles));
}

// Calls visit with as many times 64 columns as the width needs, as a type.
template <class Visitor>
void with_groups(int width, Visitor visit) {
  if (width <= 64) return visit(std::integral_constant<int, 1>{});
  if (width <= 128) return visit(std::integral_constant<int, 2>{});
  visit(std::integral_constant<int, 4>{});
}

// ---- on the device ------------------------------------------------------------------------------------------------------

struct alignas(16) Four {
  float x[kPatch];
};
using Patch = float[kPatch][kPatch];
// For one inner index, 64 numbers, and 16 bytes that keep the next index's out of the same banks.
using Line = Four[kTile / kPatch + 1];
using Weights = Line[kTile];  // [inner index][row of the sums]

struct Operands {
  Line rows[kSlice], columns[kSlice];
};
// Rows of values, as many as fit beside the rest.
template <int kGroups>
struct Values {
  static constexpr int kDepth = kGroups == 4 ? kSlice / 2 : kSlice;
  Four rows[kDepth][kGroups * kTile / kPatch + 1];
};

// Blocks that a multiprocessor should hold at once: what the compiler may take of its registers.
template <int kGroups>
inline constexpr int kBlocksOfProcessor = kGroups == 4 ? 1 : 2;

// Where this thread's patch begins.
__device__ inline int patch_row() { return static_cast<int>(threadIdx.x) / 16 * kPatch; }
__device__ inline int patch_column() { return static_cast<int>(threadIdx.x) % 16 * kPatch; }

// A tile's head, sequence and first row.
struct Place {
  int64_t b, h, first;
};
// This block's, of tiles that divide `rows` rows. With causal attention the last queries have most to do: they begin.
__device__ inline Place place_of(const Extents& s, int64_t rows, bool last_first) {
  const int64_t heads = s.batch * s.heads;
  const int64_t tile = blockIdx.x / heads, head = blockIdx.x % heads;
  return {head / s.heads, head % s.heads, (last_first ? tiles_of(rows) - 1 - tile : tile) * kTile};
}

// Rows of one head of one sequence.
template <class T>
struct HeadRows {
  T* data;
  int64_t stride, count;
};
// Those of a tile. Within one, kLongestStride lets offsets have 32 bits.
template <class T>
struct TileRows {
  T* data;
  int stride;
  int count;  // up to kTile
};
template <class T>
__device__ TileRows<T> tile_of(const HeadRows<T>& rows, int64_t first) {
  return {rows.data + first * rows.stride, static_cast<int>(rows.stride), static_cast<int>(min(rows.count - first, int64_t{kTile}))};
}

template <class T>
struct Head {
  HeadRows<const T> q, k, v;
  const int32_t* mask;  // [keys], or null
  const float* bias;    // [queries, keys], or null
};

template <class T>
__device__ HeadRows<T> query_rows(T* x, int64_t stride, const Extents& s, const Place& at) {
  return {x + at.b * s.queries * stride + at.h * s.width, stride, s.queries};
}
template <class T>
__device__ HeadRows<T> key_rows(T* x, int64_t stride, const Extents& s, const Place& at) {
  return {x + at.b * s.key_stride * stride + at.h * s.width, stride, s.keys};
}
template <class T>
__device__ Head<T> head_of(const T* q, const T* k, const T* v, const int32_t* mask, const float* bias, const Extents& s, const Place& at) {
  return {query_rows(q, s.q_stride, s, at), key_rows(k, s.k_stride, s, at), key_rows(v, s.v_stride, s, at), mask == nullptr ? nullptr : mask + at.b * s.keys,
          bias == nullptr ? nullptr : bias + at.h * s.queries * s.keys};
}

// The keys before this one are all that a tile's queries may see.
__device__ inline int64_t end_of_keys(const Extents& s, int64_t first_query) {
  return s.causal ? min(s.keys, s.first_position + min(first_query + kTile, s.queries)) : s.keys;
}

// What a tile's queries see of a tile's keys; both are counted from the tile's first.
struct Sight {
  int queries, keys;    // that exist
  int diagonal;         // query i sees keys up to diagonal + i
  const int32_t* mask;  // of the first key, or null
  const float* bias;    // of the first query and key, or null
  int bias_stride;
  float scale;

  // Bit n: key `first` + n exists and is not masked.
  __device__ unsigned open(int first) const {
    unsigned bits = 0;
#pragma unroll
    for (int n = 0; n < kPatch; ++n) {
      if (first + n < keys && (mask == nullptr || mask[first + n] != 0)) bits |= 1u << n;
    }
    return bits;
  }
  __device__ float score(float product, int query, int key, bool open_key) const {
    if (!open_key || query >= queries || key > diagonal + query) return kHidden;
    return bias == nullptr ? product * scale : fmaf(product, scale, bias[query * bias_stride + key]);
  }
};
template <class T>
__device__ Sight sight_of(const Head<T>& head, const Extents& s, int64_t first_query, int64_t first_key) {
  const int64_t diagonal = s.causal ? s.first_position + first_query - first_key : kTile;
  return {.queries = static_cast<int>(min(s.queries - first_query, int64_t{kTile})),
          .keys = static_cast<int>(min(s.keys - first_key, int64_t{kTile})),
          .diagonal = static_cast<int>(max(min(diagonal, int64_t{kTile}), int64_t{-kTile})),
          .mask = head.mask == nullptr ? nullptr : head.mask + first_key,
          .bias = head.bias == nullptr ? nullptr : head.bias + first_query * s.keys + first_key,
          .bias_stride = static_cast<int>(s.keys),
          .scale = s.scale};
}

// to[c][r] = from[r][first + c]. Eight threads read neighbours; a warp's 32 writes meet 32 banks.
template <class T>
__device__ void load_transposed(Line* to, const TileRows<const T>& from, int first, int width) {
  constexpr int kTurns = kTile * kSlice / kBlock, kRows = kBlock / 8;
  float staged[kTurns];
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int row = turn % 2 * kRows + static_cast<int>(threadIdx.x) / 8, column = first + turn / 2 * 8 + static_cast<int>(threadIdx.x) % 8;
    staged[turn] = row < from.count && column < width ? wide(from.data[row * from.stride + column]) : 0.0f;
  }
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int row = turn % 2 * kRows + static_cast<int>(threadIdx.x) / 8, column = turn / 2 * 8 + static_cast<int>(threadIdx.x) % 8;
    to[column][row / kPatch].x[row % kPatch] = staged[turn];
  }
}

// patch += rows * columns^T. Nobody reads `shared` when it begins, nor when it ends.
template <class T>
__device__ void add_products(Patch& patch, Operands& shared, const TileRows<const T>& rows, const TileRows<const T>& columns, int width) {
  for (int first = 0; first < width; first += kSlice) {
    load_transposed(shared.rows, rows, first, width);
    load_transposed(shared.columns, columns, first, width);
    __syncthreads();
    const int depth = (min(kSlice, width - first) + 7) / 8 * 8;
#pragma unroll 4
    for (int c = 0; c < depth; ++c) {
      const Four a = shared.rows[c][patch_row() / kPatch], b = shared.columns[c][patch_column() / kPatch];
#pragma unroll
      for (int i = 0; i < kPatch; ++i) {
#pragma unroll
        for (int j = 0; j < kPatch; ++j) patch[i][j] = fmaf(a.x[i], b.x[j], patch[i][j]);
      }
    }
    __syncthreads();
  }
}

// Of a thread's four rows of the tile, columns 64 g + patch_column() .. + 3 of group g.
template <int kGroups>
struct Sums {
  float x[kPatch][kGroups][kPatch];
};

// to[n][c] = from[first + n][c].
template <int kGroups, class T>
__device__ void load_values(Values<kGroups>& to, const TileRows<const T>& from, int first, int width) {
  constexpr int kColumns = kGroups * kTile, kRows = kBlock / kColumns, kTurns = Values<kGroups>::kDepth / kRows;
  const int row = static_cast<int>(threadIdx.x) / kColumns, column = static_cast<int>(threadIdx.x) % kColumns;
  float staged[kTurns];
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int at = first + turn * kRows + row;
    staged[turn] = at < from.count && column < width ? wide(from.data[at * from.stride + column]) : 0.0f;
  }
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) to.rows[turn * kRows + row][column / kPatch].x[column % kPatch] = staged[turn];
}

// sums += weights^T * rows. Nobody reads `shared` when it begins, nor when it ends; `weights` is complete after the next barrier.
template <int kGroups, class T>
__device__ void add_weighted(Sums<kGroups>& sums, Values<kGroups>& shared, const Weights& weights, const TileRows<const T>& rows, int width) {
  constexpr int kDepth = Values<kGroups>::kDepth;
  const int column = patch_column();
  for (int first = 0; first < rows.count; first += kDepth) {
    load_values(shared, rows, first, width);
    __syncthreads();
#pragma unroll 4
    for (int n = 0; column < width && n < kDepth; ++n) {
      const Four a = weights[first + n][patch_row() / kPatch];
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        const Four b = shared.rows[n][g * kTile / kPatch + column / kPatch];
#pragma unroll
        for (int i = 0; i < kPatch; ++i) {
#pragma unroll
          for (int j = 0; j < kPatch; ++j) sums.x[i][g][j] = fmaf(a.x[i], b.x[j], sums.x[i][g][j]);
        }
      }
    }
    __syncthreads();
  }
}

// to[i] = factor[i] * sums of row i, rounded.
template <int kGroups, class T>
__device__ void store_rows(const TileRows<T>& to, const Sums<kGroups>& sums, const Four& factor, int width) {
#pragma unroll
  for (int i = 0; i < kPatch; ++i) {
    if (patch_row() + i >= to.count) continue;
    T* row = to.data + (patch_row() + i) * to.stride;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int j = 0; j < kPatch; ++j) {
        const int column = g * kTile + patch_column() + j;
        if (column < width) store(row + column, sums.x[i][g][j] * factor.x[i]);
      }
    }
  }
}

}  // namespace switchyard::cuda::attention
