// A small product whose second operand lies in a core's cache. See loops.h; built per SWITCHYARD_ISA.
#pragma once

#include "kernels/cpu/loops_elementwise.h"

namespace switchyard::SWITCHYARD_ISA {

// Rows and vectors of c that the registers hold at once: as many as hide the latency of a sum and leave room for b.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 12, kTileVectors = 2;
#else
inline constexpr int kTileRows = 4, kTileVectors = 1;
#endif

template <int kRows, int kVectors>
inline void multiply_registers(const TileProduct& p, int64_t i, int64_t j) {
  Vec sums[kRows][kVectors];
  float* const c = p.c + i * p.c_stride + j;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sums[r][v] = p.add ? load(c + r * p.c_stride + v * kLanes, Full{}) : zeros();
  }
  const float* a = p.a + i * p.a_row;
  const float* b = p.b + j;
  const int64_t a_row = p.a_row, a_column = p.a_column, b_stride = p.b_stride;
  for (int64_t k = 0; k < p.k; ++k, a += a_column, b += b_stride) {
    Vec row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) row[v] = load(b + v * kLanes, Full{});
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec value = broadcast(a[r * a_row]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[r][v] = fma(value, row[v], sums[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(c + r * p.c_stride + v * kLanes, sums[r][v], Full{});
  }
}

template <int kVectors>
inline void multiply_columns(const TileProduct& p, int64_t j) {
  int64_t i = 0;
  for (; i + kTileRows <= p.m; i += kTileRows) multiply_registers<kTileRows, kVectors>(p, i, j);
  if (kTileRows > 8 && i + 8 <= p.m) {
    multiply_registers<8, kVectors>(p, i, j);
    i += 8;
  }
  if (kTileRows > 4 && i + 4 <= p.m) {
    multiply_registers<4, kVectors>(p, i, j);
    i += 4;
  }
  for (; i < p.m; ++i) multiply_registers<1, kVectors>(p, i, j);
}

inline void multiply_tile(const TileProduct& p) {
  int64_t j = 0;
  for (; j + kTileVectors * kLanes <= p.n; j += kTileVectors * kLanes) multiply_columns<kTileVectors>(p, j);
  for (; j < p.n; j += kLanes) multiply_columns<1>(p, j);
}

inline void copy_rows(const CopyRows& args) {
  with_type(args.dtype, [&]<class T>() {
    for (int64_t r = 0; r < args.rows; ++r) {
      const T* x = at<T>(args.x, r * args.stride);
      float* y = args.y + r * args.padded_columns;
      if (r + kRowsAhead < args.rows) ask_ahead<0>(x, args.stride, args.columns);
      int64_t i = 0;
      for (; i + kLanes <= args.columns; i += kLanes) store(y + i, load(x + i, Full{}), Full{});
      if (i < args.columns) {
        const int rest = static_cast<int>(args.columns - i);
        store(y + i, keep_lanes(load(x + i, rest), rest, zeros()), Full{});
        i += kLanes;
      }
      for (; i < args.padded_columns; i += kLanes) store(y + i, zeros(), Full{});
    }
  });
}

}  // namespace switchyard::SWITCHYARD_ISA
