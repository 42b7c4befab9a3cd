#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

// Row of x that index[i, k] names, or -1.
int64_t source_row(const Tensor& index, int64_t i, int64_t k, int64_t rows) {
  const int64_t row = index.row<int32_t>(i)[k];
  check(row >= -1 && row < rows, "gather_rows, row_dot: an index outside the rows");
  return row;
}

}  // namespace

void ReferenceBackend::gather_rows(Target y, const Tensor& x, const Tensor& index, const Tensor& weight) {
  const int64_t n = y.tensor.rows(), width = x.columns();
  check_dense(x, x.dtype(), x.rows(), width, "gather_rows: expected x [rows, D]");
  check_dense(y.tensor, x.dtype(), n, width, "gather_rows: expected y [n, D]");
  check_dense(index, Dtype::kI32, n, index.columns(), "gather_rows: expected index [n, k] I32");
  if (weight.exists()) check_dense(weight, x.dtype(), n, index.columns(), "gather_rows: expected weight [n, k], exact");
  with_exact(x.dtype(), [&]<class T>() {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t c = 0; c < width; ++c) {
        T total = 0;
        for (int64_t k = 0; k < index.columns(); ++k) {
          const int64_t row = source_row(index, i, k, x.rows());
          if (row < 0) continue;
          total += weight.exists() ? weight.row<T>(i)[k] * x.row<T>(row)[c] : x.row<T>(row)[c];
        }
        store(y.tensor.row<T>(i)[c], total, y.add);
      }
    }
  });
}

void ReferenceBackend::row_dot(Out d, const Tensor& a, const Tensor& b, const Tensor& index) {
  const int64_t n = a.rows(), width = a.columns();
  check_dense(a, a.dtype(), n, width, "row_dot: expected a [n, D]");
  check_dense(b, a.dtype(), b.rows(), width, "row_dot: expected b [rows, D] of a's dtype");
  check_dense(index, Dtype::kI32, n, index.columns(), "row_dot: expected index [n, k] I32");
  check_dense(d.tensor, a.dtype(), n, index.columns(), "row_dot: expected d [n, k], exact");
  with_exact(a.dtype(), [&]<class T>() {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t k = 0; k < index.columns(); ++k) {
        const int64_t row = source_row(index, i, k, b.rows());
        T total = 0;
        for (int64_t c = 0; row >= 0 && c < width; ++c) total += a.row<T>(i)[c] * b.row<T>(row)[c];
        d.tensor.row<T>(i)[k] = total;
      }
    }
  });
}

}  // namespace switchyard::reference
