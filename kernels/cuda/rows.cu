#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {
namespace {

struct RowsShape {
  int64_t rows, width, choices;  // n, D, k
  bool add;
};

// A warp for each row of y; the choices in order.
template <class Y, class X>
__global__ void __launch_bounds__(kBlock) gather(Y* y, const X* x, const int32_t* index, const float* weight, RowsShape s) {
  for (int64_t r = warp_number(); r < s.rows; r += warps_of_grid()) {
    for_quads_of_row(s.width, [&](int64_t c, int64_t left) {
      Quad total{};
      for (int64_t k = r * s.choices; k < (r + 1) * s.choices; ++k) {
        if (index[k] < 0) continue;
        const Quad quad = load_quad(x + index[k] * s.width + c, left);
        const float factor = weight == nullptr ? 1.0f : weight[k];
        for (int i = 0; i < kQuad; ++i) total.x[i] += factor * quad.x[i];
      }
      store_quad(y + r * s.width + c, left, total, s.add);
    });
  }
}

// A warp for each product.
template <class T>
__global__ void __launch_bounds__(kBlock) multiply_rows(float* d, const T* a, const T* b, const int32_t* index, RowsShape s) {
  for (int64_t k = warp_number(); k < s.rows * s.choices; k += warps_of_grid()) {
    const int64_t row = k / s.choices, other = index[k], columns = other < 0 ? 0 : s.width;
    float total = 0;
    for_quads_of_row(columns, [&](int64_t c, int64_t left) {
      const Quad x = load_quad(a + row * s.width + c, left), y = load_quad(b + other * s.width + c, left);
      for (int i = 0; i < kQuad; ++i) total += x.x[i] * y.x[i];
    });
    total = warp_sum(total);
    if (lane_number() == 0) d[k] = total;
  }
}

}  // namespace

void CudaBackend::gather_rows(Target y, const Tensor& x, const Tensor& index, const Tensor& weight) {
  const int64_t n = y.tensor.rows(), width = x.columns(), choices = index.columns();
  check_dense(x, x.dtype(), x.rows(), width, "gather_rows: expected x [rows, D]");
  check_dense(y.tensor, y.tensor.dtype(), n, width, "gather_rows: expected y [n, D]");
  check_dense(index, Dtype::kI32, n, choices, "gather_rows: expected index [n, k] I32");
  if (weight.exists()) check_dense(weight, Dtype::kF32, n, choices, "gather_rows: expected weight [n, k], exact");
  const LaunchShape warps{blocks_for_rows(n), kBlock, 0, stream()};
  with_activation(y.tensor.dtype(), [&](auto to) {
    with_activation(x.dtype(), [&](auto from) {
      using Y = decltype(to);
      using X = decltype(from);
      enqueue(&gather<Y, X>, warps, data_of<Y>(y.tensor), data_of<X>(x), data_of<int32_t>(index), data_of<float>(weight), RowsShape{n, width, choices, y.add});
    });
  });
}

void CudaBackend::row_dot(Out d, const Tensor& a, const Tensor& b, const Tensor& index) {
  const int64_t n = a.rows(), width = a.columns(), choices = index.columns();
  check_dense(a, a.dtype(), n, width, "row_dot: expected a [n, D]");
  check_dense(b, a.dtype(), b.rows(), width, "row_dot: expected b [rows, D] of a's dtype");
  check_dense(index, Dtype::kI32, n, choices, "row_dot: expected index [n, k] I32");
  check_dense(d.tensor, Dtype::kF32, n, choices, "row_dot: expected d [n, k], exact");
  with_activation(a.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&multiply_rows<T>, {blocks_for_rows(n * choices), kBlock, 0, stream()}, data_of<float>(d.tensor), data_of<T>(a), data_of<T>(b),
            data_of<int32_t>(index), RowsShape{n, width, choices, false});
  });
}

}  // namespace switchyard::cuda
