#include <cmath>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/quads_of_threads.h"

namespace switchyard::cuda {
namespace {

struct Active {
  float value, slope;
};

// With z = sqrt(2 / pi) (x + 0.044715 x^3), e = exp(-2 z) and s = 1 / (1 + e):
//   (1 + tanh z) / 2 = s;  gelu(x) = x s;  gelu'(x) = s + x e s^2 2 z'
// Nothing is subtracted, so nothing cancels. s is 0 or 1 where the bounds hold, beyond which squares and e could overflow.
__device__ Active gelu(float x) {
  constexpr float kSaturated = 20.0f, kExponent = 80.0f, kScale = 0.79788456080286535588f, kCubic = 0.044715f;
  const float bounded = x > kSaturated ? kSaturated : x < -kSaturated ? -kSaturated : x;  // NaN stays NaN
  const float square = bounded * bounded;
  const float exponent = bounded * fmaf(square, -2.0f * kScale * kCubic, -2.0f * kScale);
  const float e = expf(exponent > kExponent ? kExponent : exponent);
  const float s = 1.0f / (1.0f + e);
  const float twice_dz = fmaf(square, 6.0f * kScale * kCubic, 2.0f * kScale);
  return {x * s, fmaf(bounded * (e * s) * s, twice_dz, s)};
}

__device__ Active active(Activation kind, float x) {
  if (kind == Activation::kGelu) return gelu(x);
  return {x < 0 ? 0.0f : x, x > 0 ? 1.0f : 0.0f};
}

// gate may be null.
template <class T>
__global__ void __launch_bounds__(kBlock) activate_quads(T* h, const T* u, const T* gate, Plane plane, Drops drops, Activation kind) {
  for_quads(plane, [&](int64_t row, int64_t column, int64_t left) {
    const int64_t i = row * plane.columns + column;
    float factor[kQuad];
    drops.factors(row, column, factor);
    Quad quad = load_quad(u + i, left);
    for (int k = 0; k < kQuad; ++k) quad.x[k] = active(kind, quad.x[k]).value;
    if (gate != nullptr) {
      const Quad gates = load_quad(gate + i, left);
      for (int k = 0; k < kQuad; ++k) quad.x[k] *= gates.x[k];
    }
    for (int k = 0; k < kQuad; ++k) quad.x[k] *= factor[k];
    store_quad(h + i, left, quad);
  });
}

// gate and dgate may be null; du may be dh.
template <class T>
__global__ void __launch_bounds__(kBlock)
    differentiate_quads(T* du, T* dgate, const T* dh, const T* u, const T* gate, Plane plane, Drops drops, Activation kind) {
  for_quads(plane, [&](int64_t row, int64_t column, int64_t left) {
    const int64_t i = row * plane.columns + column;
    float factor[kQuad];
    drops.factors(row, column, factor);
    const Quad from = load_quad(u + i, left);
    Quad d = load_quad(dh + i, left), to_gate;
    for (int k = 0; k < kQuad; ++k) {
      const Active of = active(kind, from.x[k]);
      d.x[k] *= factor[k];
      to_gate.x[k] = d.x[k] * of.value;
      d.x[k] *= of.slope;
    }
    if (gate != nullptr) {
      const Quad gates = load_quad(gate + i, left);
      for (int k = 0; k < kQuad; ++k) d.x[k] *= gates.x[k];
      store_quad(dgate + i, left, to_gate);
    }
    store_quad(du + i, left, d);
  });
}

void check_like(const Tensor& x, const Tensor& u, const char* sentence) {
  check(x.dtype() == u.dtype() && x.shape() == u.shape() && x.contiguous(), sentence);
  check_device(x);
}

}  // namespace

void CudaBackend::activate(Out h, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) {
  check_like(u, u, "activate: expected u [n, F], contiguous");
  check_like(h.tensor, u, "activate: expected h like u");
  if (gate.exists()) check_like(gate, u, "activate: expected gate like u");
  if (u.elements() == 0) return;
  const Drops drops = drops_of(dropout);
  const Plane plane = plane_of(u, drops.active);
  with_activation(u.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&activate_quads<T>, threads_for(plane, stream()), data_of<T>(h.tensor), data_of<T>(u), data_of<T>(gate), plane, drops, activation);
  });
}

void CudaBackend::activate_backward(Out du, Out dgate, const Tensor& dh, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) {
  check_like(u, u, "activate_backward: expected u [n, F], contiguous");
  check_like(dh, u, "activate_backward: expected dh like u");
  check_like(du.tensor, u, "activate_backward: expected du like u");
  check(gate.exists() == dgate.tensor.exists(), "activate_backward: expected dgate where there is a gate, and only there");
  if (gate.exists()) {
    check_like(gate, u, "activate_backward: expected gate like u");
    check_like(dgate.tensor, u, "activate_backward: expected dgate like u");
  }
  if (u.elements() == 0) return;
  const Drops drops = drops_of(dropout);
  const Plane plane = plane_of(u, drops.active);
  with_activation(u.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&differentiate_quads<T>, threads_for(plane, stream()), data_of<T>(du.tensor), data_of<T>(dgate.tensor), data_of<T>(dh), data_of<T>(u),
            data_of<T>(gate), plane, drops, activation);
  });
}

}  // namespace switchyard::cuda
