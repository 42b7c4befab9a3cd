#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

constexpr double kGeluScale = 0.79788456080286535588;  // sqrt(2 / pi)
constexpr double kGeluCubic = 0.044715;

template <class T>
T value_at(Activation activation, T x) {
  if (activation == Activation::kRelu) return x < 0 ? T{0} : x;
  const T scale = static_cast<T>(kGeluScale), cubic = static_cast<T>(kGeluCubic);
  return T{0.5} * x * (1 + std::tanh(scale * (x + cubic * x * x * x)));
}

template <class T>
T slope_at(Activation activation, T x) {
  if (activation == Activation::kRelu) return x > 0 ? T{1} : T{0};
  const T scale = static_cast<T>(kGeluScale), cubic = static_cast<T>(kGeluCubic);
  const T t = std::tanh(scale * (x + cubic * x * x * x));
  return T{0.5} * (1 + t) + T{0.5} * x * (1 - t * t) * scale * (1 + 3 * cubic * x * x);
}

void check_like(const Tensor& x, const Tensor& u, const char* sentence) { check(x.dtype() == u.dtype() && x.shape() == u.shape() && x.contiguous(), sentence); }

}  // namespace

void ReferenceBackend::activate(Out h, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) {
  check_like(u, u, "activate: expected u [n, F], contiguous");
  check_like(h.tensor, u, "activate: expected h like u");
  if (gate.exists()) check_like(gate, u, "activate: expected gate like u");
  with_exact(u.dtype(), [&]<class T>() {
    for (int64_t r = 0; r < u.rows(); ++r) {
      for (int64_t c = 0; c < u.columns(); ++c) {
        const T g = gate.exists() ? gate.row<T>(r)[c] : T{1};
        h.tensor.row<T>(r)[c] = value_at(activation, u.row<T>(r)[c]) * g * dropout_factor<T>(dropout, r, c);
      }
    }
  });
}

void ReferenceBackend::activate_backward(Out du, Out dgate, const Tensor& dh, const Tensor& u, const Tensor& gate, Activation activation,
                                         const Dropout& dropout) {
  check_like(u, u, "activate_backward: expected u [n, F], contiguous");
  check_like(dh, u, "activate_backward: expected dh like u");
  check_like(du.tensor, u, "activate_backward: expected du like u");
  check(gate.exists() == dgate.tensor.exists(), "activate_backward: expected dgate where there is a gate, and only there");
  if (gate.exists()) {
    check_like(gate, u, "activate_backward: expected gate like u");
    check_like(dgate.tensor, u, "activate_backward: expected dgate like u");
  }
  with_exact(u.dtype(), [&]<class T>() {
    for (int64_t r = 0; r < u.rows(); ++r) {
      for (int64_t c = 0; c < u.columns(); ++c) {
        const T x = u.row<T>(r)[c], d = dh.row<T>(r)[c] * dropout_factor<T>(dropout, r, c);
        const T g = gate.exists() ? gate.row<T>(r)[c] : T{1};
        if (gate.exists()) dgate.tensor.row<T>(r)[c] = d * value_at(activation, x);
        du.tensor.row<T>(r)[c] = d * g * slope_at(activation, x);
      }
    }
  });
}

}  // namespace switchyard::reference
