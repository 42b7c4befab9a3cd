// A warp for each row. The sums over rows are made for tiles of rows, and then over the tiles.
#include <cmath>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/pieces.h"
#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {
namespace {

constexpr int64_t kTileRows = 128;

struct NormShape {
  int64_t rows, width;
  float epsilon;
  bool centered, has_bias, add;

  __host__ __device__ int64_t tiles() const { return divide_up(rows, kTileRows); }
};

// Of (x - center)^power over the row; every lane has it.
template <int power, class T>
__device__ float mean_of_row(const T* row, int64_t width, float center) {
  float total = 0;
  for_quads_of_row(width, [&](int64_t c, int64_t left) {
    const Quad quad = load_quad(row + c, left);
    for (int i = 0; i < kQuad; ++i) {
      const float x = i < left ? quad.x[i] - center : 0;
      total += power == 1 ? x : x * x;
    }
  });
  return warp_sum(total) / static_cast<float>(width);
}

template <class T>
__global__ void __launch_bounds__(kBlock) normalise(T* y, float* statistics, const T* x, const float* scale, const float* bias, NormShape s) {
  for (int64_t r = warp_number(); r < s.rows; r += warps_of_grid()) {
    const T* row = x + r * s.width;
    const float mean = s.centered ? mean_of_row<1>(row, s.width, 0) : 0;
    const float rstd = 1.0f / sqrtf(mean_of_row<2>(row, s.width, mean) + s.epsilon);
    for_quads_of_row(s.width, [&](int64_t c, int64_t left) {
      const Quad scales = load_quad(scale + c, left);
      Quad quad = load_quad(row + c, left);
      for (int i = 0; i < kQuad; ++i) quad.x[i] = (quad.x[i] - mean) * rstd * scales.x[i];
      if (s.has_bias) add_quad(quad, load_quad(bias + c, left));
      store_quad(y + r * s.width + c, left, quad);
    });
    if (lane_number() == 0) {
      statistics[2 * r] = mean;
      statistics[2 * r + 1] = rstd;
    }
  }
}

// With h = (x - mean) rstd and g = dy * scale:  dx = rstd (g - mean(g) - h mean(g h));  RMSNorm has no mean(g).
template <class T>
__global__ void __launch_bounds__(kBlock) differentiate_rows(T* dx, const T* dy, const T* x, const float* statistics, const float* scale, NormShape s) {
  for (int64_t r = warp_number(); r < s.rows; r += warps_of_grid()) {
    const float mean = statistics[2 * r], rstd = statistics[2 * r + 1];
    const int64_t begin = r * s.width;
    const auto load = [&](int64_t c, int64_t left, Quad& g, Quad& h) {
      const Quad scales = load_quad(scale + c, left);
      g = load_quad(dy + begin + c, left);
      h = load_quad(x + begin + c, left);
      for (int i = 0; i < kQuad; ++i) {
        g.x[i] *= scales.x[i];  // 0 beyond the row
        h.x[i] = (h.x[i] - mean) * rstd;
      }
    };
    float mean_g = 0, mean_gh = 0;
    Quad g, h;
    for_quads_of_row(s.width, [&](int64_t c, int64_t left) {
      load(c, left, g, h);
      for (int i = 0; i < kQuad; ++i) {
        mean_g += g.x[i];
        mean_gh += g.x[i] * h.x[i];
      }
    });
    mean_g = s.centered ? warp_sum(mean_g) / static_cast<float>(s.width) : 0;
    mean_gh = warp_sum(mean_gh) / static_cast<float>(s.width);
    for_quads_of_row(s.width, [&](int64_t c, int64_t left) {
      load(c, left, g, h);
      for (int i = 0; i < kQuad; ++i) g.x[i] = rstd * (g.x[i] - mean_g - h.x[i] * mean_gh);
      store_quad(dx + begin + c, left, g, s.add);
    });
  }
}

// A block for each tile of rows and kWarpColumns columns; its warps take turns at the rows. parts: [2, tiles, width], of
// dscale and of dbias.
template <class T>
__global__ void __launch_bounds__(kBlock) sum_tiles(float* parts, const T* dy, const T* x, const float* statistics, NormShape s) {
  const int64_t chunks = divide_up(s.width, kWarpColumns);
  for (int64_t job = blockIdx.x; job < s.tiles() * chunks; job += gridDim.x) {
    const int64_t tile = job / chunks, c = job % chunks * kWarpColumns + first_column(), left = s.width - c;
    const int64_t end = min((tile + 1) * kTileRows, s.rows);
    Quad dscale{}, dbias{};
    for (int64_t r = tile * kTileRows + warp_of_block(); r < end; r += kWarps) {
      const float mean = statistics[2 * r], rstd = statistics[2 * r + 1];
      const Quad g = load_quad(dy + r * s.width + c, left), from = load_quad(x + r * s.width + c, left);
      for (int i = 0; i < kQuad; ++i) dscale.x[i] += g.x[i] * (from.x[i] - mean) * rstd;
      add_quad(dbias, g);
    }
    dscale = sum_over_warps(dscale);
    if (warp_of_block() == 0) store_quad(parts + tile * s.width + c, left, dscale);
    if (!s.has_bias) continue;
    dbias = sum_over_warps(dbias);
    if (warp_of_block() == 0) store_quad(parts + (s.tiles() + tile) * s.width + c, left, dbias);
  }
}

// to [width] (+)= sum over the tiles of parts [tiles, width].
__global__ void __launch_bounds__(kBlock) sum_parts(float* to, const float* parts, int64_t tiles, int64_t width, bool add) {
  for (int64_t chunk = static_cast<int64_t>(blockIdx.x) * kWarpColumns; chunk < width; chunk += static_cast<int64_t>(gridDim.x) * kWarpColumns) {
    const int64_t c = chunk + first_column(), left = width - c;
    Quad total{};
    for (int64_t tile = warp_of_block(); tile < tiles; tile += kWarps) add_quad(total, load_quad(parts + tile * width + c, left));
    total = sum_over_warps(total);
    if (warp_of_block() == 0) store_quad(to + c, left, total, add);
  }
}

void check_norm(const Tensor& x, const Tensor& like, const Tensor& statistics, const Tensor& scale, const char* sentence) {
  check(x.columns() > 0, sentence);
  check_dense(x, x.dtype(), x.rows(), x.columns(), sentence);
  check_dense(like, x.dtype(), x.rows(), x.columns(), sentence);
  check_dense(statistics, Dtype::kF32, x.rows(), 2, sentence);
  check_vector(scale, Dtype::kF32, x.columns(), sentence);
}

NormShape shape_of(const Tensor& x, const Norm& norm, bool has_bias, bool add) {
  return {x.rows(), x.columns(), static_cast<float>(norm.epsilon), norm.kind == NormKind::kLayerNorm, has_bias, add};
}

}  // namespace

void CudaBackend::norm_forward(Out y, Out statistics, const Tensor& x, const Tensor& scale, const Tensor& bias, const Norm& norm) {
  check_norm(x, y.tensor, statistics.tensor, scale, "norm_forward: expected x and y [n, D] activation, statistics [n, 2] and scale [D] exact");
  if (bias.exists()) check_vector(bias, Dtype::kF32, x.columns(), "norm_forward: expected bias [D], exact");
  with_activation(x.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&normalise<T>, {blocks_for_rows(x.rows()), kBlock, 0, stream()}, data_of<T>(y.tensor), data_of<float>(statistics.tensor), data_of<T>(x),
            data_of<float>(scale), data_of<float>(bias), shape_of(x, norm, bias.exists(), false));
  });
}

void CudaBackend::norm_backward(Target dx, Target dscale, Target dbias, const Tensor& dy, const Tensor& x, const Tensor& statistics, const Tensor& scale,
                                const Norm& norm) {
  const int64_t n = x.rows(), width = x.columns();
  const bool has_bias = dbias.tensor.exists();
  check_norm(x, dx.tensor, statistics, scale, "norm_backward: expected x and dx [n, D] activation, statistics [n, 2] and scale [D] exact");
  check_dense(dy, x.dtype(), n, width, "norm_backward: expected dy like x");
  check_vector(dscale.tensor, Dtype::kF32, width, "norm_backward: expected dscale [D], exact");
  if (has_bias) check_vector(dbias.tensor, Dtype::kF32, width, "norm_backward: expected dbias [D], exact");
  const NormShape shape = shape_of(x, norm, has_bias, dx.add);
  const int64_t chunks = divide_up(width, kWarpColumns), tiles = shape.tiles();
  auto* parts = static_cast<float*>(workspace_.at_least(2 * tiles * width * static_cast<int64_t>(sizeof(float))));
  with_activation(x.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&sum_tiles<T>, {blocks_for_jobs(tiles * chunks), kBlock, 0, stream()}, parts, data_of<T>(dy), data_of<T>(x), data_of<float>(statistics), shape);
    enqueue(&differentiate_rows<T>, {blocks_for_rows(n), kBlock, 0, stream()}, data_of<T>(dx.tensor), data_of<T>(dy), data_of<T>(x), data_of<float>(statistics),
            data_of<float>(scale), shape);
  });
  const LaunchShape columns{blocks_for_jobs(chunks), kBlock, 0, stream()};
  enqueue(&sum_parts, columns, data_of<float>(dscale.tensor), parts, tiles, width, dscale.add);
  if (has_bias) enqueue(&sum_parts, columns, data_of<float>(dbias.tensor), parts + tiles * width, tiles, width, dbias.add);
}

}  // namespace switchyard::cuda
