// A block for each row, which is read twice: once for its largest logit and the sum of exponentials, once for the gradient
// that takes its place.
#include <cfloat>
#include <climits>
#include <cmath>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {
namespace {

struct LossShape {
  int64_t rows, width;
  float scale, z;
  bool gradient;
};

// Of some columns: the largest logit, the lowest of its columns, and the sum of exp(logit - largest).
struct Peak {
  float largest;
  int column;
  float sum;
};

struct PeaksOfWarps {
  Peak peak[kWarps];
};

// for_quads_of_row where a block has the row.
template <class Visit>
__device__ void for_quads_of_block(int64_t width, Visit visit) {
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * kQuad; c < width; c += static_cast<int64_t>(blockDim.x) * kQuad) visit(c, width - c);
}

template <class T>
__device__ Peak peak_of_thread(const T* row, int64_t width) {
  const int64_t first = static_cast<int64_t>(threadIdx.x) * kQuad;
  Peak peak{-FLT_MAX, static_cast<int>(first), 0};
  for_quads_of_block(width, [&](int64_t c, int64_t left) {
    const Quad quad = load_quad(row + c, left);
    for (int i = 0; i < kQuad && i < left; ++i) {
      if (quad.x[i] > peak.largest) {
        peak.sum *= expf(peak.largest - quad.x[i]);
        peak.largest = quad.x[i];
        peak.column = static_cast<int>(c) + i;
      }
      peak.sum += expf(quad.x[i] - peak.largest);
    }
  });
  return peak;
}

__device__ int warp_min(int x) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x = min(x, __shfl_xor_sync(kFullMask, x, distance));
  return x;
}

__device__ Peak peak_of_warp(const Peak& own) {
  const float largest = warp_max(own.largest);
  const int column = warp_min(own.largest == largest ? own.column : INT_MAX);
  return {largest, column, warp_sum(own.sum * expf(own.largest - largest))};
}

// Over the warps in order; every thread has it. What the threads did before it is done when it returns.
__device__ Peak peak_of_block(const Peak& own) {
  PeaksOfWarps& shared = shared_storage<PeaksOfWarps>();
  const Peak of_warp = peak_of_warp(own);
  if (lane_number() == 0) shared.peak[warp_of_block()] = of_warp;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  Peak peak = shared.peak[0];
  for (int w = 1; w < warps; ++w) {
    if (shared.peak[w].largest > peak.largest) peak.largest = shared.peak[w].largest;
  }
  peak.column = INT_MAX;
  peak.sum = 0;
  for (int w = 0; w < warps; ++w) {
    const Peak& other = shared.peak[w];
    if (other.largest == peak.largest) peak.column = min(peak.column, other.column);
    peak.sum += other.sum * expf(other.largest - peak.largest);
  }
  return peak;
}

// row = factor * exp(row - total) - (scale at the target)
template <class T>
__device__ void write_gradient(T* row, int64_t target, float total, float factor, const LossShape& s) {
  for_quads_of_block(s.width, [&](int64_t c, int64_t left) {
    Quad quad = load_quad(row + c, left);
    for (int i = 0; i < kQuad; ++i) quad.x[i] = factor * expf(quad.x[i] - total) - (c + i == target ? s.scale : 0.0f);
    store_quad(row + c, left, quad);
  });
}

template <class T>
__device__ void write_zeros(T* row, int64_t width) {
  for_quads_of_block(width, [&](int64_t c, int64_t left) { store_quad(row + c, left, Quad{}); });
}

// Columns belong to threads, so that a thread overwrites only what it has read itself; thread 0 reads the target's logit before
// the barrier in peak_of_block.
template <class T>
__global__ void __launch_bounds__(kBlock) take_losses(T* logits, float* loss, int32_t* correct, const int32_t* targets, LossShape s) {
  for (int64_t r = blockIdx.x; r < s.rows; r += gridDim.x) {
    const int64_t target = targets[r];
    T* row = logits + r * s.width;
    const bool counts = target >= 0, writes = threadIdx.x == 0;
    const float of_target = counts && writes ? wide(row[target]) : 0;
    const Peak peak = peak_of_block(counts ? peak_of_thread(row, s.width) : Peak{0, 0, 1});
    const float total = peak.largest + logf(peak.sum);  // Z
    if (writes) loss[r] = counts ? s.scale * (total - of_target + s.z * total * total) : 0.0f;
    if (writes) correct[r] = counts && peak.column == target ? 1 : 0;
    if (s.gradient && counts) write_gradient(row, target, total, s.scale * (1.0f + 2.0f * s.z * total), s);
    if (s.gradient && !counts) write_zeros(row, s.width);
    __syncthreads();  // the next row's peaks take the place of this one's
  }
}

}  // namespace

void CudaBackend::cross_entropy(Tensor logits, Out loss, Out correct, const Tensor& targets, const CrossEntropy& options) {
  const int64_t n = logits.rows(), vocabulary = logits.columns();
  check(vocabulary > 0 && vocabulary <= INT_MAX, "cross_entropy: expected contiguous logits [n, N]");
  check_dense(logits, logits.dtype(), n, vocabulary, "cross_entropy: expected contiguous logits [n, N]");
  check_vector(loss.tensor, Dtype::kF32, n, "cross_entropy: expected loss [n], exact");
  check_vector(correct.tensor, Dtype::kI32, n, "cross_entropy: expected correct [n] I32");
  check_vector(targets, Dtype::kI32, n, "cross_entropy: expected targets [n] I32");
  const LossShape shape{n, vocabulary, static_cast<float>(options.scale), static_cast<float>(options.z), options.gradient};
  const int64_t warps = std::min<int64_t>(kWarps, divide_up(vocabulary, kWarpColumns));  // by the width alone
  with_activation(logits.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&take_losses<T>, {blocks_for_jobs(n), static_cast<unsigned>(warps * kWarp), 0, stream()}, data_of<T>(logits), data_of<float>(loss.tensor),
            data_of<int32_t>(correct.tensor), data_of<int32_t>(targets), shape);
  });
}

}  // namespace switchyard::cuda
