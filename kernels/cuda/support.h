// What every file of kernels here begins with: launching with a check, threads for elements and rows, numbers of either
// dtype, sums across a warp and a block.
#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>

#include <device/seam.h>
#include "kernels/backend.h"
#include "kernels/cuda/gpu.h"

namespace switchyard::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kBlock = 256;  // threads, unless a kernel says otherwise
inline constexpr unsigned kFullMask = 0xffffffffu;

// Puts a kernel into a stream. Throws Error(kFailure) where the launch is refused.
template <class... Parameters, class... Arguments>
void enqueue(void (*kernel)(Parameters...), const LaunchShape& shape, Arguments&&... arguments) {
  require(launch(kernel, shape, std::forward<Arguments>(arguments)...), "a kernel's launch");
}

__host__ __device__ inline int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Blocks for `items`, `per_block` of each; kernels stride over what a larger grid would have taken. At least one.
inline dim3 blocks_for(int64_t items, int64_t per_block) { return dim3(static_cast<unsigned>(std::clamp<int64_t>(divide_up(items, per_block), 1, 65535))); }

// This thread's number in the grid, and how many there are: for loops over elements.
__device__ inline int64_t thread_number() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t threads_of_grid() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }
// The same for warps: for loops over rows that have a warp each.
__device__ inline int64_t warp_number() { return thread_number() / kWarp; }
__device__ inline int64_t warps_of_grid() { return threads_of_grid() / kWarp; }
__device__ inline int lane_number() { return static_cast<int>(threadIdx.x) % kWarp; }

__device__ inline float wide(float x) { return x; }
__device__ inline float wide(__nv_bfloat16 x) { return __bfloat162float(x); }
// Rounds once, to the nearest, ties to even.
__device__ inline void store(float* to, float x) { *to = x; }
__device__ inline void store(__nv_bfloat16* to, float x) { *to = __float2bfloat16_rn(x); }

// Of all lanes, in the order of a butterfly: every lane has the same bits.
__device__ inline float warp_sum(float x) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(kFullMask, x, distance);
  return x;
}
__device__ inline double warp_sum(double x) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(kFullMask, x, distance);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(kFullMask, x, distance));
  return x;
}

// ---- at the door, on the host -------------------------------------------------------------------------------------------

// The element that stands for a dtype on the device.
template <class T>
T* data_of(const Tensor& x) {
  return static_cast<T*>(x.data());
}

// Calls visit(T{}) with double, float or __nv_bfloat16.
template <class Visitor>
void with_float(Dtype dtype, Visitor visit) {
  if (dtype == Dtype::kF64) return visit(double{});
  if (dtype == Dtype::kF32) return visit(float{});
  check(dtype == Dtype::kBF16, "expected numbers in F64, F32 or BF16");
  visit(__nv_bfloat16{});
}

// Calls visit(T{}) with float or __nv_bfloat16.
template <class Visitor>
void with_activation(Dtype dtype, Visitor visit) {
  if (dtype == Dtype::kF32) return visit(float{});
  check(dtype == Dtype::kBF16, "the device computes in F32 and BF16");
  visit(__nv_bfloat16{});
}

inline void check_device(const Tensor& x) {
  check(!x.exists() || x.device() == Device::kCuda || x.elements() == 0, "a tensor of the host was given to the device");
}
inline void check_matrix(const Tensor& x, Dtype dtype, int64_t rows, int64_t columns, const char* sentence) {
  check(x.dtype() == dtype && x.rows() == rows && x.columns() == columns, sentence);
  check_device(x);
}
// A matrix whose rows follow one another.
inline void check_dense(const Tensor& x, Dtype dtype, int64_t rows, int64_t columns, const char* sentence) {
  check_matrix(x, dtype, rows, columns, sentence);
  check(x.contiguous(), sentence);
}
inline void check_vector(const Tensor& x, Dtype dtype, int64_t elements, const char* sentence) {
  check(x.dtype() == dtype && x.elements() == elements && x.contiguous(), sentence);
  check_device(x);
}

// Dropout as kernels take it: the draw of row r, column c is random.word(r, c).
struct Drops {
  Random random{};
  uint32_t threshold = 0;
  float scale = 1;  // of what stays
  bool active = false;

  // What element (row, column) is multiplied by.
  __device__ float factor(int64_t row, int64_t column) const {
    if (!active) return 1;
    return random.word(static_cast<uint64_t>(row), static_cast<uint32_t>(column)) < threshold ? 0.0f : scale;
  }
  // The same of four columns by one draw; the first is a multiple of 4.
  __device__ void factors(int64_t row, int64_t column, float (&factor)[4]) const {
    for (int i = 0; i < 4; ++i) factor[i] = 1;
    if (!active) return;
    const Philox4 words = random.words(static_cast<uint64_t>(row), static_cast<uint32_t>(column / 4));
    for (size_t i = 0; i < 4; ++i) factor[i] = words[i] < threshold ? 0.0f : scale;
  }
};
inline Drops drops_of(const Dropout& dropout) {
  return {dropout.random, drop_threshold(dropout.rate), static_cast<float>(1.0 / (1.0 - dropout.rate)), dropout.rate > 0};
}

}  // namespace switchyard::cuda
