// The updates by the CPU's operations, each rounded by itself: equal gradients give weights of equal bits.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {
namespace {

struct AdamWScalars {
  float gradient_scale, beta1, beta2, rest1, rest2;  // rest: 1 - beta
  float correction1, correction2, epsilon, rate, decay;
};

// decay already holds the learning rate.
__device__ float stepped(float w, float step, float rate, float decay) { return __fsub_rn(w, __fadd_rn(__fmul_rn(decay, w), __fmul_rn(rate, step))); }

__global__ void __launch_bounds__(kBlock) adamw_elements(float* w, float* m, float* v, const float* g, int64_t n, AdamWScalars s) {
  for (int64_t i = thread_number(); i < n; i += threads_of_grid()) {
    const float gradient = __fmul_rn(g[i], s.gradient_scale);
    const float mean = __fmaf_rn(s.rest1, gradient, __fmul_rn(s.beta1, m[i]));
    const float square = __fmaf_rn(__fmul_rn(s.rest2, gradient), gradient, __fmul_rn(s.beta2, v[i]));
    const float root = __fsqrt_rn(__fdiv_rn(square, s.correction2));
    const float step = __fdiv_rn(__fdiv_rn(mean, s.correction1), __fadd_rn(root, s.epsilon));
    w[i] = stepped(w[i], step, s.rate, s.decay);
    m[i] = mean;
    v[i] = square;
  }
}

struct SgdScalars {
  float gradient_scale, momentum, rate, decay;
};

// momentum may be null.
__global__ void __launch_bounds__(kBlock) sgd_elements(float* w, float* momentum, const float* g, int64_t n, SgdScalars s) {
  for (int64_t i = thread_number(); i < n; i += threads_of_grid()) {
    float step = __fmul_rn(g[i], s.gradient_scale);
    if (momentum != nullptr) {
      step = __fmaf_rn(s.momentum, momentum[i], step);
      momentum[i] = step;
    }
    w[i] = stepped(w[i], step, s.rate, s.decay);
  }
}

void check_same(const Tensor& x, const Tensor& master) {
  check_vector(x, Dtype::kF32, master.elements(), "update: expected master, moments and gradient of one size, exact");
}

}  // namespace

void CudaBackend::adamw(Tensor master, Tensor m, Tensor v, const Tensor& gradient, const AdamW& o) {
  for (const Tensor& x : {master, m, v, gradient}) check_same(x, master);
  const int64_t n = master.elements();
  if (n == 0) return;
  AdamWScalars s{};
  s.gradient_scale = static_cast<float>(o.gradient_scale);
  s.beta1 = static_cast<float>(o.beta1);
  s.beta2 = static_cast<float>(o.beta2);
  s.rest1 = static_cast<float>(1 - o.beta1);
  s.rest2 = static_cast<float>(1 - o.beta2);
  s.correction1 = static_cast<float>(o.correction1);
  s.correction2 = static_cast<float>(o.correction2);
  s.epsilon = static_cast<float>(o.epsilon);
  s.rate = static_cast<float>(o.learning_rate);
  s.decay = static_cast<float>(o.learning_rate * o.decay);
  enqueue(&adamw_elements, {blocks_for_items(n), kBlock, 0, stream()}, data_of<float>(master), data_of<float>(m), data_of<float>(v), data_of<float>(gradient),
          n, s);
}

void CudaBackend::sgd(Tensor master, Tensor momentum, const Tensor& gradient, const Sgd& o) {
  check_same(master, master);
  check_same(gradient, master);
  if (momentum.exists()) check_same(momentum, master);
  check(momentum.exists() || o.momentum == 0, "sgd: expected a momentum tensor");
  const int64_t n = master.elements();
  if (n == 0) return;
  const SgdScalars s{static_cast<float>(o.gradient_scale), static_cast<float>(o.momentum), static_cast<float>(o.learning_rate),
                     static_cast<float>(o.learning_rate * o.decay)};
  enqueue(&sgd_elements, {blocks_for_items(n), kBlock, 0, stream()}, data_of<float>(master), data_of<float>(momentum), data_of<float>(gradient), n, s);
}

}  // namespace switchyard::cuda
