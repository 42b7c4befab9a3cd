// Element by element. Every operation is rounded by itself, so that the bits are those of the CPU.
#include <type_traits>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/quads_of_threads.h"

namespace switchyard::cuda {
namespace {

// F64 beside F64, else F32; BF16 is reached through F32.
template <class A, class B>
using Wider = std::conditional_t<std::is_same_v<A, double> || std::is_same_v<B, double>, double, float>;

template <class To, class From>
__device__ To cast(From value) {
  if constexpr (std::is_same_v<To, __nv_bfloat16>) {
    return __float2bfloat16_rn(static_cast<float>(value));
  } else if constexpr (std::is_same_v<From, __nv_bfloat16>) {
    return static_cast<To>(wide(value));
  } else {
    return static_cast<To>(value);
  }
}

template <class To, class From>
__global__ void __launch_bounds__(kBlock) convert_quads(To* y, const From* x, Plane plane, bool add) {
  using Sum = Wider<To, From>;
  for_quads(plane, [&](int64_t, int64_t i, int64_t left) {
    const Packed<From> from = load_packed(x + i, left);
    Packed<To> to;
    if (add) {
      to = load_packed(y + i, left);
      for (int k = 0; k < kQuad; ++k) to.x[k] = cast<To>(cast<Sum>(to.x[k]) + cast<Sum>(from.x[k]));
    } else {
      for (int k = 0; k < kQuad; ++k) to.x[k] = cast<To>(from.x[k]);
    }
    store_packed(y + i, left, to);
  });
}

// y = a + dropout(b), or dropout(b) where a is null. y may be a or b.
template <class T>
__global__ void __launch_bounds__(kBlock) add_dropped(T* y, const T* a, const T* b, Plane plane, Drops drops) {
  for_quads(plane, [&](int64_t row, int64_t column, int64_t left) {
    const int64_t i = row * plane.columns + column;
    float factor[kQuad];
    drops.factors(row, column, factor);
    Quad quad = load_quad(b + i, left);
    for (int k = 0; k < kQuad; ++k) quad.x[k] = factor[k] == 0 ? 0.0f : __fmul_rn(quad.x[k], factor[k]);
    if (a != nullptr) {
      const Quad other = load_quad(a + i, left);
      for (int k = 0; k < kQuad; ++k) quad.x[k] = __fadd_rn(other.x[k], quad.x[k]);
    }
    store_quad(y + i, left, quad);
  });
}

// Factors low + span * [0, 1).
struct Jitters {
  Random random{};
  float low = 1, span = 0;
  bool active = false;
};

template <class T>
__global__ void __launch_bounds__(kBlock) multiply_by_jitter(float* y, const T* x, Plane plane, Jitters jitters, bool add) {
  for_quads(plane, [&](int64_t row, int64_t column, int64_t left) {
    const int64_t i = row * plane.columns + column;
    Quad quad = load_quad(x + i, left);
    if (jitters.active) {
      const Philox4 words = jitters.random.words(static_cast<uint64_t>(row), static_cast<uint32_t>(column / kQuad));
      for (size_t k = 0; k < kQuad; ++k) quad.x[k] = __fmul_rn(quad.x[k], __fmaf_rn(jitters.span, unit_float(words[k]), jitters.low));
    }
    if (add) {
      const Quad old = load_quad(y + i, left);
      for (int k = 0; k < kQuad; ++k) quad.x[k] = __fadd_rn(old.x[k], quad.x[k]);
    }
    store_quad(y + i, left, quad);
  });
}

void check_like(const Tensor& y, const Tensor& x, const char* sentence) {
  check(y.dtype() == x.dtype() && y.shape() == x.shape() && y.contiguous() && x.contiguous(), sentence);
  check_device(y);
  check_device(x);
}

}  // namespace

void CudaBackend::convert(Target y, const Tensor& x) {
  const Tensor& to = y.tensor;
  check(to.shape() == x.shape() && to.contiguous() && x.contiguous(), "convert: expected contiguous tensors of one shape");
  check(to.dtype() != Dtype::kI32 && x.dtype() != Dtype::kI32, "convert: expected numbers in F64, F32 or BF16");
  check_device(to);
  check_device(x);
  if (x.elements() == 0) return;
  if (to.dtype() == x.dtype() && !y.add) {
    if (to.data() == x.data()) return;
    require(cudaMemcpyAsync(to.data(), x.data(), static_cast<size_t>(x.bytes()), cudaMemcpyDeviceToDevice, stream()), "cudaMemcpyAsync");
    return;
  }
  const Plane plane = plane_of(x, false);
  with_float(to.dtype(), [&](auto to_type) {
    with_float(x.dtype(), [&](auto from_type) {
      using To = decltype(to_type);
      using From = decltype(from_type);
      enqueue(&convert_quads<To, From>, threads_for(plane, stream()), data_of<To>(to), data_of<From>(x), plane, y.add);
    });
  });
}

void CudaBackend::add(Out y, const Tensor& a, const Tensor& b, const Dropout& dropout) {
  check_like(y.tensor, a, "add: expected three contiguous tensors of one dtype and shape");
  check_like(y.tensor, b, "add: expected three contiguous tensors of one dtype and shape");
  if (a.elements() == 0) return;
  const Drops drops = drops_of(dropout);
  const Plane plane = plane_of(a, drops.active);
  with_activation(a.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&add_dropped<T>, threads_for(plane, stream()), data_of<T>(y.tensor), data_of<T>(a), data_of<T>(b), plane, drops);
  });
}

void CudaBackend::dropout(Out y, const Tensor& x, const Dropout& dropout) {
  check_like(y.tensor, x, "dropout: expected contiguous tensors of one dtype and shape");
  if (x.elements() == 0) return;
  const Drops drops = drops_of(dropout);
  const Plane plane = plane_of(x, drops.active);
  with_activation(x.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&add_dropped<T>, threads_for(plane, stream()), data_of<T>(y.tensor), nullptr, data_of<T>(x), plane, drops);
  });
}

void CudaBackend::jitter(Target y, const Tensor& x, double epsilon, const Random& random) {
  check(y.tensor.dtype() == Dtype::kF32 && y.tensor.shape() == x.shape() && y.tensor.contiguous() && x.contiguous(),
        "jitter: expected contiguous tensors of one shape, y exact");
  check_device(y.tensor);
  check_device(x);
  if (x.elements() == 0) return;
  const Jitters jitters{random, static_cast<float>(1.0 - epsilon), static_cast<float>(2.0 * epsilon), epsilon > 0};
  const Plane plane = plane_of(x, jitters.active);
  with_activation(x.dtype(), [&](auto type) {
    using T = decltype(type);
    enqueue(&multiply_by_jitter<T>, threads_for(plane, stream()), data_of<float>(y.tensor), data_of<T>(x), plane, jitters, y.add);
  });
}

}  // namespace switchyard::cuda
