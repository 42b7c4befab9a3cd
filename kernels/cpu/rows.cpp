#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

void check_index(const Tensor& index, int64_t n, int64_t rows) {
  check_dense(index, Dtype::kI32, n, index.columns(), "gather_rows, row_dot: expected index [n, k] I32");
  const int32_t* at = index.get<int32_t>();
  for (int64_t i = 0; i < index.elements(); ++i) check(at[i] >= -1 && at[i] < rows, "gather_rows, row_dot: an index outside the rows");
}

}  // namespace

void CpuBackend::gather_rows(Target y, const Tensor& x, const Tensor& index, const Tensor& weight) {
  const int64_t n = y.tensor.rows(), width = x.columns(), choices = index.columns();
  check_activation(x, "gather_rows: expected F32 or BF16");
  check_activation(y.tensor, "gather_rows: expected F32 or BF16");
  check_dense(x, x.dtype(), x.rows(), width, "gather_rows: expected x [rows, D]");
  check_dense(y.tensor, y.tensor.dtype(), n, width, "gather_rows: expected y [n, D]");
  check_index(index, n, x.rows());
  if (weight.exists()) check_dense(weight, Dtype::kF32, n, choices, "gather_rows: expected weight [n, k], exact");
  team_.run_pieces(n, rows_per_task(width), [&](int64_t first, int64_t rows, int) {
    const float* weights = weight.exists() ? weight.get<float>() + first * choices : nullptr;
    loops_.gather_rows(
        {address(y.tensor, first), y.tensor.dtype(), y.add, x.data(), x.dtype(), rows, width, choices, index.get<int32_t>() + first * choices, weights});
  });
}

void CpuBackend::row_dot(Out d, const Tensor& a, const Tensor& b, const Tensor& index) {
  const int64_t n = a.rows(), width = a.columns(), choices = index.columns();
  check_activation(a, "row_dot: expected F32 or BF16");
  check_dense(a, a.dtype(), n, width, "row_dot: expected a [n, D]");
  check_dense(b, a.dtype(), b.rows(), width, "row_dot: expected b [rows, D] of a's dtype");
  check_dense(d.tensor, Dtype::kF32, n, choices, "row_dot: expected d [n, k], exact");
  check_index(index, n, b.rows());
  team_.run_pieces(n, rows_per_task(width), [&](int64_t first, int64_t rows, int) {
    for (int64_t i = first * choices; i < (first + rows) * choices; ++i) {
      const int32_t row = index.get<int32_t>()[i];
      d.tensor.get<float>()[i] = row < 0 ? 0.0f : loops_.dot(address(a, i / choices), address(b, row), a.dtype(), width);
    }
  });
}

}  // namespace switchyard::cpu
