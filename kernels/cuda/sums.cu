// Sums in F64: pieces of a fixed length by a block each, then the pieces. Which thread adds an element depends on the element's
// number alone.
#include <cmath>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/quads_of_threads.h"

namespace switchyard::cuda {
namespace {

constexpr int64_t kPiece = 4 * kBlock * kQuad;  // elements that a block adds
constexpr int64_t kTileRows = 256;              // rows that a block adds, column by column

struct WarpTotals {
  double x[kWarps];
};

// Over the block's threads; thread 0 has the result. All threads of a block of kBlock call it.
__device__ double sum_of_block(double own) {
  WarpTotals& totals = shared_storage<WarpTotals>();
  own = warp_sum(own);
  if (lane_number() == 0) totals.x[warp_of_block()] = own;
  __syncthreads();
  double total = 0;
  for (int w = 0; threadIdx.x == 0 && w < kWarps; ++w) total += totals.x[w];
  __syncthreads();  // the next call overwrites what thread 0 reads
  return total;
}

__device__ double widest(double x) { return x; }
__device__ double widest(float x) { return static_cast<double>(x); }
__device__ double widest(__nv_bfloat16 x) { return static_cast<double>(wide(x)); }

template <class T>
__global__ void __launch_bounds__(kBlock) sum_pieces(double* parts, const T* x, int64_t n, bool squares) {
  for (int64_t piece = blockIdx.x; piece * kPiece < n; piece += gridDim.x) {
    const int64_t end = (piece + 1) * kPiece < n ? (piece + 1) * kPiece : n;
    double total = 0;
    for (int64_t i = piece * kPiece + static_cast<int64_t>(threadIdx.x) * kQuad; i < end; i += kBlock * kQuad) {
      const Packed<T> quad = load_packed(x + i, end - i);
      for (int k = 0; k < kQuad; ++k) {
        const double value = widest(quad.x[k]);
        total = squares ? fma(value, value, total) : total + value;
      }
    }
    total = sum_of_block(total);
    if (threadIdx.x == 0) parts[piece] = total;
  }
}

// One block.
__global__ void __launch_bounds__(kBlock) sum_parts(double* to, const double* parts, int64_t count, bool add) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < count; i += kBlock) total += parts[i];
  total = sum_of_block(total);
  if (threadIdx.x == 0) *to = add ? *to + total : total;
}

struct ColumnTotals {
  double x[kWarps][kWarp][kQuad];
};

// A block for each tile of rows and kWarpColumns columns; its warps take turns at the rows. parts: [tiles, columns].
template <class T>
__global__ void __launch_bounds__(kBlock) sum_tiles(double* parts, const T* x, int64_t rows, int64_t columns) {
  ColumnTotals& totals = shared_storage<ColumnTotals>();
  const int64_t chunks = (columns + kWarpColumns - 1) / kWarpColumns, tiles = (rows + kTileRows - 1) / kTileRows;
  const int warp = warp_of_block(), lane = lane_number();
  for (int64_t job = blockIdx.x; job < tiles * chunks; job += gridDim.x) {
    const int64_t tile = job / chunks, c = job % chunks * kWarpColumns + first_column(), left = columns - c;
    const int64_t end = (tile + 1) * kTileRows < rows ? (tile + 1) * kTileRows : rows;
    double own[kQuad] = {};
    for (int64_t r = tile * kTileRows + warp; r < end; r += kWarps) {
      const Quad quad = load_quad(x + r * columns + c, left);
      for (int k = 0; k < kQuad; ++k) own[k] += widest(quad.x[k]);
    }
    for (int k = 0; k < kQuad; ++k) totals.x[warp][lane][k] = own[k];
    __syncthreads();
    for (int k = 0; warp == 0 && k < kQuad && k < left; ++k) {
      double total = 0;
      for (int w = 0; w < kWarps; ++w) total += totals.x[w][lane][k];
      parts[tile * columns + c + k] = total;
    }
    __syncthreads();
  }
}

// y [columns] (+)= sum over the tiles of parts [tiles, columns].
__global__ void __launch_bounds__(kBlock) sum_tiles_of_columns(float* y, const double* parts, int64_t tiles, int64_t columns, bool add) {
  for (int64_t c = thread_number(); c < columns; c += threads_of_grid()) {
    double total = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) total += parts[tile * columns + c];
    y[c] = add ? y[c] + static_cast<float>(total) : static_cast<float>(total);
  }
}

}  // namespace

void CudaBackend::add_totals(const Target& total, const Tensor& x, bool squares) {
  check_vector(total.tensor, Dtype::kF64, 1, "sum: expected one F64 for the total");
  check(x.contiguous() && x.dtype() != Dtype::kI32, "sum: expected contiguous numbers in F64, F32 or BF16");
  check_device(x);
  const int64_t n = x.elements(), pieces = (n + kPiece - 1) / kPiece;
  auto* parts = static_cast<double*>(workspace_.at_least(pieces * static_cast<int64_t>(sizeof(double))));
  if (n > 0) {
    with_float(x.dtype(), [&](auto type) {
      using T = decltype(type);
      enqueue(&sum_pieces<T>, {blocks_for(pieces, 2), kBlock, 0, stream()}, parts, data_of<T>(x), n, squares);
    });
  }
  enqueue(&sum_parts, {1, kBlock, 0, stream()}, data_of<double>(total.tensor), parts, pieces, total.add);
}

void CudaBackend::sum(Target total, const Tensor& x) { add_totals(total, x, false); }

void CudaBackend::sum_of_squares(Target total, const Tensor& x) { add_totals(total, x, true); }

void CudaBackend::sum_rows(Target y, const Tensor& x) {
  const int64_t rows = x.rows(), columns = x.columns(), tiles = (rows + kTileRows - 1) / kTileRows;
  check(x.contiguous(), "sum_rows: expected a contiguous tensor");
  check_device(x);
  check_vector(y.tensor, Dtype::kF32, columns, "sum_rows: expected y [columns], exact");
  auto* parts = static_cast<double*>(workspace_.at_least(tiles * columns * static_cast<int64_t>(sizeof(double))));
  with_activation(x.dtype(), [&](auto type) {
    using T = decltype(type);
    if (x.elements() == 0) return;
    const int64_t chunks = (columns + kWarpColumns - 1) / kWarpColumns;
    enqueue(&sum_tiles<T>, {blocks_for(tiles * chunks, 2), kBlock, 0, stream()}, parts, data_of<T>(x), rows, columns);
  });
  if (columns == 0) return;
  enqueue(&sum_tiles_of_columns, {blocks_for_items(columns), kBlock, 0, stream()}, data_of<float>(y.tensor), parts, tiles, columns, y.add);
}

}  // namespace switchyard::cuda
