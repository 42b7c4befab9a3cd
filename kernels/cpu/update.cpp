#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

constexpr int64_t kPiece = 16 * 1024;  // elements that one task works on, a multiple of 64

void check_same(const Tensor& x, const Tensor& master) {
  check_vector(x, Dtype::kF32, master.elements(), "update: expected master, moments and gradient of one size, exact");
}

}  // namespace

void CpuBackend::adamw(Tensor master, Tensor m, Tensor v, const Tensor& gradient, const AdamW& o) {
  for (const Tensor& x : {master, m, v, gradient}) check_same(x, master);
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
  team_.run_pieces(master.elements(), kPiece, [&](int64_t first, int64_t count, int) {
    loops_.adamw(master.get<float>() + first, m.get<float>() + first, v.get<float>() + first, gradient.get<float>() + first, count, s);
  });
}

void CpuBackend::sgd(Tensor master, Tensor momentum, const Tensor& gradient, const Sgd& o) {
  check_same(master, master);
  check_same(gradient, master);
  if (momentum.exists()) check_same(momentum, master);
  check(momentum.exists() || o.momentum == 0, "sgd: expected a momentum tensor");
  const SgdScalars s{static_cast<float>(o.gradient_scale), static_cast<float>(o.momentum), static_cast<float>(o.learning_rate),
                     static_cast<float>(o.learning_rate * o.decay)};
  team_.run_pieces(master.elements(), kPiece, [&](int64_t first, int64_t count, int) {
    loops_.sgd(master.get<float>() + first, momentum.exists() ? momentum.get<float>() + first : nullptr, gradient.get<float>() + first, count, s);
  });
}

}  // namespace switchyard::cpu
