#include <cmath>
#include <type_traits>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

// F64 beside F64, else F32; BF16 is reached through F32.
template <class A, class B>
using Wider = std::conditional_t<std::is_same_v<A, double> || std::is_same_v<B, double>, double, float>;

template <class To, class From>
To cast(From value) {
  if constexpr (std::is_same_v<To, BFloat16>) {
    return BFloat16(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

void check_like(const Tensor& y, const Tensor& x, const char* sentence) {
  check(y.dtype() == x.dtype() && y.shape() == x.shape() && y.contiguous() && x.contiguous(), sentence);
}

}  // namespace

void ReferenceBackend::convert(Target y, const Tensor& x) {
  check(y.tensor.shape() == x.shape() && y.tensor.contiguous() && x.contiguous(), "convert: expected contiguous tensors of one shape");
  with_float(y.tensor.dtype(), [&]<class To>() {
    with_float(x.dtype(), [&]<class From>() {
      using Sum = Wider<To, From>;
      To* to = y.tensor.get<To>();
      const From* from = x.get<From>();
      for (int64_t i = 0; i < x.elements(); ++i) {
        to[i] = y.add ? cast<To>(cast<Sum>(to[i]) + cast<Sum>(from[i])) : cast<To>(from[i]);
      }
    });
  });
}

void ReferenceBackend::add(Out y, const Tensor& a, const Tensor& b, const Dropout& dropout) {
  check_like(y.tensor, a, "add: expected three contiguous tensors of one dtype and shape");
  check_like(y.tensor, b, "add: expected three contiguous tensors of one dtype and shape");
  with_exact(a.dtype(), [&]<class T>() {
    for (int64_t r = 0; r < a.rows(); ++r) {
      for (int64_t c = 0; c < a.columns(); ++c) y.tensor.row<T>(r)[c] = a.row<T>(r)[c] + b.row<T>(r)[c] * dropout_factor<T>(dropout, r, c);
    }
  });
}

void ReferenceBackend::dropout(Out y, const Tensor& x, const Dropout& dropout) {
  check_like(y.tensor, x, "dropout: expected contiguous tensors of one dtype and shape");
  with_exact(x.dtype(), [&]<class T>() {
    for (int64_t r = 0; r < x.rows(); ++r) {
      for (int64_t c = 0; c < x.columns(); ++c) y.tensor.row<T>(r)[c] = x.row<T>(r)[c] * dropout_factor<T>(dropout, r, c);
    }
  });
}

void ReferenceBackend::jitter(Target y, const Tensor& x, double epsilon, const Random& random) {
  check_like(y.tensor, x, "jitter: expected contiguous tensors of one dtype and shape");
  with_exact(x.dtype(), [&]<class T>() {
    for (int64_t r = 0; r < x.rows(); ++r) {
      for (int64_t c = 0; c < x.columns(); ++c) {
        const T unit = static_cast<T>(unit_float(random.word(static_cast<uint64_t>(r), static_cast<uint32_t>(c))));
        // one rounding, so that every device draws the same bits
        const T u = epsilon > 0 ? std::fma(static_cast<T>(2.0 * epsilon), unit, static_cast<T>(1.0 - epsilon)) : T{1};
        store(y.tensor.row<T>(r)[c], x.row<T>(r)[c] * u, y.add);
      }
    }
  });
}

}  // namespace switchyard::reference
