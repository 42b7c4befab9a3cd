// Sums in F64: fixed pieces, each in sixteen lanes, added in order of pieces.
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {
constexpr int64_t kPiece = 64 * 1024;  // elements
constexpr int64_t kColumns = 64;       // columns that one task sums
}  // namespace

void CpuBackend::add_totals(const Target& total, const Tensor& x, bool squares) {
  check_vector(total.tensor, Dtype::kF64, 1, "sum: expected one F64 for the total");
  check(x.contiguous() && x.dtype() != Dtype::kI32, "sum: expected a contiguous float tensor");
  partials_.resize(static_cast<size_t>(divide_up(x.elements(), kPiece)));
  team_.run_pieces(x.elements(), kPiece, [&](int64_t first, int64_t count, int) {
    partials_[static_cast<size_t>(first / kPiece)] = loops_.sum(static_cast<const char*>(x.data()) + first * size_of(x.dtype()), x.dtype(), count, squares);
  });
  double result = 0;
  for (const double partial : partials_) result += partial;
  double& place = *total.tensor.get<double>();
  place = total.add ? place + result : result;
}

void CpuBackend::sum(Target total, const Tensor& x) { add_totals(total, x, false); }

void CpuBackend::sum_of_squares(Target total, const Tensor& x) { add_totals(total, x, true); }

void CpuBackend::sum_rows(Target y, const Tensor& x) {
  check_activation(x, "sum_rows: expected F32 or BF16");
  check(x.contiguous(), "sum_rows: expected a contiguous tensor");
  check_vector(y.tensor, Dtype::kF32, x.columns(), "sum_rows: expected y [columns], exact");
  team_.run_pieces(x.columns(), kColumns, [&](int64_t first, int64_t count, int) {
    loops_.sum_columns(y.tensor.get<float>() + first, address(x, 0, first), x.dtype(), x.rows(), count, x.columns(), y.add);
  });
}

}  // namespace switchyard::cpu
