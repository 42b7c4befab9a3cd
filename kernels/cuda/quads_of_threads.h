// How the threads of a grid share out what is done element by element: each has four neighbours of a row at a time, which is
// what one random draw serves. Rows without draws are one long row.
#pragma once

#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {

struct Plane {
  int64_t rows = 0, columns = 0;

  __host__ __device__ int64_t quads_of_row() const { return (columns + kQuad - 1) / kQuad; }
  __host__ __device__ int64_t quads() const { return rows * quads_of_row(); }
};

inline Plane plane_of(const Tensor& x, bool drawn) { return drawn ? Plane{x.rows(), x.columns()} : Plane{1, x.elements()}; }

inline LaunchShape threads_for(const Plane& plane, cudaStream_t stream) { return {blocks_for_items(plane.quads()), kBlock, 0, stream}; }

// Calls visit(row, column, left) for each of this thread's quads: the first column, and how many there are from there on.
template <class Visit>
__device__ void for_quads(const Plane& plane, Visit visit) {
  const int64_t quads = plane.quads_of_row();
  for (int64_t i = thread_number(); i < plane.quads(); i += threads_of_grid()) {
    const int64_t row = plane.rows == 1 ? 0 : i / quads, column = (i - row * quads) * kQuad;
    visit(row, column, plane.columns - column);
  }
}

// Like load_quad and store_quad of rows_of_warps.h, in the tensor's own dtype.
template <class T>
__device__ inline Packed<T> load_packed(const T* from, int64_t left) {
  if (loads_at_once(from, left)) return *reinterpret_cast<const Packed<T>*>(from);
  Packed<T> packed;
  for (int k = 0; k < kQuad; ++k) packed.x[k] = k < left ? from[k] : T(0.0f);
  return packed;
}

template <class T>
__device__ inline void store_packed(T* to, int64_t left, const Packed<T>& packed) {
  if (loads_at_once(to, left)) {
    *reinterpret_cast<Packed<T>*>(to) = packed;
  } else {
    for (int k = 0; k < kQuad; ++k) {
      if (k < left) to[k] = packed.x[k];
    }
  }
}

}  // namespace switchyard::cuda
