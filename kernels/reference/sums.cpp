#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

template <class T>
double total_of(const Tensor& x, bool squares) {
  double total = 0;
  for (int64_t i = 0; i < x.elements(); ++i) {
    const double value = static_cast<double>(x.get<T>()[i]);
    total += squares ? value * value : value;
  }
  return total;
}

void sum_into(const Target& total, const Tensor& x, bool squares) {
  check_vector(total.tensor, Dtype::kF64, 1, "sum: expected one F64 for the total");
  check(x.contiguous(), "sum: expected a contiguous tensor");
  with_float(x.dtype(), [&]<class T>() { store(*total.tensor.get<double>(), total_of<T>(x, squares), total.add); });
}

}  // namespace

void ReferenceBackend::sum(Target total, const Tensor& x) { sum_into(total, x, false); }

void ReferenceBackend::sum_of_squares(Target total, const Tensor& x) { sum_into(total, x, true); }

void ReferenceBackend::sum_rows(Target y, const Tensor& x) {
  check(x.contiguous(), "sum_rows: expected a contiguous tensor");
  check_vector(y.tensor, x.dtype(), x.columns(), "sum_rows: expected [columns] of x's exact dtype");
  with_exact(x.dtype(), [&]<class T>() {
    for (int64_t c = 0; c < x.columns(); ++c) {
      double total = 0;
      for (int64_t r = 0; r < x.rows(); ++r) total += static_cast<double>(x.row<T>(r)[c]);
      store(y.tensor.get<T>()[c], static_cast<T>(total), y.add);
    }
  });
}

}  // namespace switchyard::reference
