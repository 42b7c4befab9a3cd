// How warps share out a row's columns: each lane has four neighbours, the next lane the next four. Which lane has a column
// depends on the column alone, and so does the order of every sum, whether or not an address allows wide loads.
#pragma once

#include "kernels/cuda/support.h"

namespace switchyard::cuda {

inline constexpr int kQuad = 4;
inline constexpr int kWarpColumns = kWarp * kQuad;  // that a warp has at a time
inline constexpr int kWarps = kBlock / kWarp;

// Blocks of kBlock threads for jobs that have a block each, rows that have a warp each and items that have a thread each. Each
// takes two where there are as many: half the threads to start.
inline dim3 blocks_for_jobs(int64_t jobs) { return blocks_for(jobs, 2); }
inline dim3 blocks_for_rows(int64_t rows) { return blocks_for(rows, 2 * kWarps); }
inline dim3 blocks_for_items(int64_t items) { return blocks_for(items, 2 * kBlock); }

struct Quad {
  float x[kQuad];
};

// Elements that are loaded at once.
template <class T>
struct alignas(kQuad * sizeof(T)) Packed {
  T x[kQuad];
};

// This lane's first column; the next ones are kWarpColumns further.
__device__ inline int64_t first_column() { return static_cast<int64_t>(lane_number()) * kQuad; }
__device__ inline int warp_of_block() { return static_cast<int>(threadIdx.x) / kWarp; }

// Calls visit(column, left) for each of this lane's quads of a row: the first column, and how many there are from there on.
template <class Visit>
__device__ void for_quads_of_row(int64_t width, Visit visit) {
  for (int64_t c = first_column(); c < width; c += kWarpColumns) visit(c, width - c);
}

template <class T>
__device__ inline bool loads_at_once(const T* from, int64_t left) {
  return left >= kQuad && reinterpret_cast<uintptr_t>(from) % sizeof(Packed<T>) == 0;
}

// `left`: columns from here to the row's end, beyond which are zeros. Not above 0: nothing is read.
template <class T>
__device__ inline Quad load_quad(const T* from, int64_t left) {
  Quad quad{};
  if (loads_at_once(from, left)) {
    const Packed<T> packed = *reinterpret_cast<const Packed<T>*>(from);
    for (int i = 0; i < kQuad; ++i) quad.x[i] = wide(packed.x[i]);
  } else {
    for (int i = 0; i < kQuad; ++i) {
      if (i < left) quad.x[i] = wide(from[i]);
    }
  }
  return quad;
}

// Rounds each once, after addition to what is there where `add`.
template <class T>
__device__ inline void store_quad(T* to, int64_t left, Quad quad, bool add = false) {
  if (add) {
    const Quad old = load_quad(to, left);
    for (int i = 0; i < kQuad; ++i) quad.x[i] += old.x[i];
  }
  if (loads_at_once(to, left)) {
    Packed<T> packed;
    for (int i = 0; i < kQuad; ++i) store(&packed.x[i], quad.x[i]);
    *reinterpret_cast<Packed<T>*>(to) = packed;
  } else {
    for (int i = 0; i < kQuad; ++i) {
      if (i < left) store(to + i, quad.x[i]);
    }
  }
}

__device__ inline void add_quad(Quad& total, const Quad& quad) {
  for (int i = 0; i < kQuad; ++i) total.x[i] += quad.x[i];
}

struct QuadsOfWarps {
  Quad quad[kWarps][kWarp];
};

// Of each lane's number, over the warps in order; the result is warp 0's. All threads of a block of kBlock call it.
__device__ inline Quad sum_over_warps(const Quad& own) {
  QuadsOfWarps& shared = shared_storage<QuadsOfWarps>();
  const int warp = warp_of_block(), lane = lane_number();
  shared.quad[warp][lane] = own;
  __syncthreads();
  Quad total{};
  if (warp == 0) {
    for (int w = 0; w < kWarps; ++w) add_quad(total, shared.quad[w][lane]);
  }
  __syncthreads();  // the next call overwrites what warp 0 reads
  return total;
}

struct DoublesOfWarps {
  double x[kWarps][kWarp];
};

__device__ inline double sum_over_warps(double own) {
  DoublesOfWarps& shared = shared_storage<DoublesOfWarps>();
  const int warp = warp_of_block(), lane = lane_number();
  shared.x[warp][lane] = own;
  __syncthreads();
  double total = 0;
  for (int w = 0; warp == 0 && w < kWarps; ++w) total += shared.x[w][lane];
  __syncthreads();
  return total;
}

}  // namespace switchyard::cuda
