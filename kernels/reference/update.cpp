#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

void check_same(const Tensor& x, const Tensor& master) {
  check_vector(x, master.dtype(), master.elements(), "update: expected master, moments and gradient of one dtype and size");
}

}  // namespace

void ReferenceBackend::adamw(Tensor master, Tensor m, Tensor v, const Tensor& gradient, const AdamW& o) {
  for (const Tensor& x : {master, m, v, gradient}) check_same(x, master);
  with_exact(master.dtype(), [&]<class T>() {
    const T beta1 = static_cast<T>(o.beta1), beta2 = static_cast<T>(o.beta2);
    for (int64_t i = 0; i < master.elements(); ++i) {
      T& w = master.get<T>()[i];
      T& mean = m.get<T>()[i];
      T& square = v.get<T>()[i];
      const T g = gradient.get<T>()[i] * static_cast<T>(o.gradient_scale);
      mean = beta1 * mean + static_cast<T>(1 - o.beta1) * g;
      square = beta2 * square + static_cast<T>(1 - o.beta2) * g * g;
      const T step = mean / static_cast<T>(o.correction1) / (std::sqrt(square / static_cast<T>(o.correction2)) + static_cast<T>(o.epsilon));
      w -= static_cast<T>(o.learning_rate * o.decay) * w + static_cast<T>(o.learning_rate) * step;
    }
  });
}

void ReferenceBackend::sgd(Tensor master, Tensor momentum, const Tensor& gradient, const Sgd& o) {
  check_same(gradient, master);
  if (momentum.exists()) check_same(momentum, master);
  check(momentum.exists() || o.momentum == 0, "sgd: expected a momentum tensor");
  with_exact(master.dtype(), [&]<class T>() {
    for (int64_t i = 0; i < master.elements(); ++i) {
      T& w = master.get<T>()[i];
      T step = gradient.get<T>()[i] * static_cast<T>(o.gradient_scale);
      if (momentum.exists()) {
        T& speed = momentum.get<T>()[i];
        speed = static_cast<T>(o.momentum) * speed + step;
        step = speed;
      }
      w -= static_cast<T>(o.learning_rate * o.decay) * w + static_cast<T>(o.learning_rate) * step;
    }
  });
}

}  // namespace switchyard::reference
