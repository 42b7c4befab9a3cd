#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

template <class T>
T mean_of(const T* x, int64_t n) {
  T total = 0;
  for (int64_t c = 0; c < n; ++c) total += x[c];
  return total / static_cast<T>(n);
}

// Mean of (x - center)^2.
template <class T>
T mean_square(const T* x, int64_t n, T center) {
  T total = 0;
  for (int64_t c = 0; c < n; ++c) total += (x[c] - center) * (x[c] - center);
  return total / static_cast<T>(n);
}

// With h = (x - mean) rstd and g = dy * scale:  dx = rstd (g - mean(g) - h mean(g h));  RMSNorm has no mean(g).
template <class T>
void backward_row(const Target& dx, int64_t r, const T* dy, const T* x, const T* statistics, const T* scale, NormKind kind) {
  const int64_t width = dx.tensor.columns();
  const T mean = statistics[0], rstd = statistics[1];
  T mean_g = 0, mean_gh = 0;
  for (int64_t c = 0; c < width; ++c) {
    mean_g += dy[c] * scale[c];
    mean_gh += dy[c] * scale[c] * (x[c] - mean) * rstd;
  }
  mean_g = kind == NormKind::kLayerNorm ? mean_g / static_cast<T>(width) : T{0};
  mean_gh /= static_cast<T>(width);
  for (int64_t c = 0; c < width; ++c) {
    const T h = (x[c] - mean) * rstd;
    store(dx.tensor.row<T>(r)[c], rstd * (dy[c] * scale[c] - mean_g - h * mean_gh), dx.add);
  }
}

}  // namespace

void ReferenceBackend::norm_forward(Out y, Out statistics, const Tensor& x, const Tensor& scale, const Tensor& bias, const Norm& norm) {
  const int64_t n = x.rows(), width = x.columns();
  check_dense(x, x.dtype(), n, width, "norm_forward: expected x [n, D]");
  check_dense(y.tensor, x.dtype(), n, width, "norm_forward: expected y like x");
  check_dense(statistics.tensor, x.dtype(), n, 2, "norm_forward: expected statistics [n, 2], exact");
  check_vector(scale, x.dtype(), width, "norm_forward: expected scale [D], exact");
  if (bias.exists()) check_vector(bias, x.dtype(), width, "norm_forward: expected bias [D], exact");
  with_exact(x.dtype(), [&]<class T>() {
    for (int64_t r = 0; r < n; ++r) {
      const T* row = x.row<T>(r);
      const T mean = norm.kind == NormKind::kLayerNorm ? mean_of(row, width) : T{0};
      const T rstd = T{1} / std::sqrt(mean_square(row, width, mean) + static_cast<T>(norm.epsilon));
      for (int64_t c = 0; c < width; ++c) {
        const T normal = (row[c] - mean) * rstd * scale.get<T>()[c];
        y.tensor.row<T>(r)[c] = bias.exists() ? normal + bias.get<T>()[c] : normal;
      }
      statistics.tensor.row<T>(r)[0] = mean;
      statistics.tensor.row<T>(r)[1] = rstd;
    }
  });
}

void ReferenceBackend::norm_backward(Target dx, Target dscale, Target dbias, const Tensor& dy, const Tensor& x, const Tensor& statistics, const Tensor& scale,
                                     const Norm& norm) {
  const int64_t n = x.rows(), width = x.columns();
  check_dense(x, x.dtype(), n, width, "norm_backward: expected x [n, D]");
  check_dense(dy, x.dtype(), n, width, "norm_backward: expected dy like x");
  check_dense(dx.tensor, x.dtype(), n, width, "norm_backward: expected dx like x");
  check_dense(statistics, x.dtype(), n, 2, "norm_backward: expected statistics [n, 2], exact");
  check_vector(scale, x.dtype(), width, "norm_backward: expected scale [D], exact");
  check_vector(dscale.tensor, x.dtype(), width, "norm_backward: expected dscale [D], exact");
  if (dbias.tensor.exists()) check_vector(dbias.tensor, x.dtype(), width, "norm_backward: expected dbias [D], exact");
  with_exact(x.dtype(), [&]<class T>() {
    for (int64_t c = 0; c < width; ++c) {
      T sum_scale = 0, sum_bias = 0;
      for (int64_t r = 0; r < n; ++r) {
        const T mean = statistics.row<T>(r)[0], rstd = statistics.row<T>(r)[1];
        sum_scale += dy.row<T>(r)[c] * (x.row<T>(r)[c] - mean) * rstd;
        sum_bias += dy.row<T>(r)[c];
      }
      store(dscale.tensor.get<T>()[c], sum_scale, dscale.add);
      if (dbias.tensor.exists()) store(dbias.tensor.get<T>()[c], sum_bias, dbias.add);
    }
    for (int64_t r = 0; r < n; ++r) backward_row<T>(dx, r, dy.row<T>(r), x.row<T>(r), statistics.row<T>(r), scale.get<T>(), norm.kind);
  });
}

}  // namespace switchyard::reference
