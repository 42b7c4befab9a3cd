#include "kernels/payload.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

void check_payload(const Tensor& payload, const Tensor& norms, const Tensor& x, PayloadFormat format) {
  check(format != PayloadFormat::kPlain, "quantise, dequantise: expected a format");
  check_activation(x, "quantise, dequantise: expected F32 or BF16");
  check_dense(x, x.dtype(), x.rows(), x.columns(), "quantise, dequantise: expected x, y [n, D]");
  check_dense(payload, Dtype::kI32, x.rows(), payload_words(x.columns()), "quantise, dequantise: expected payload [n, payload_words(D)] I32");
  if (norms.exists()) check_dense(norms, Dtype::kF32, x.rows(), 2, "quantise, dequantise: expected norms [n, 2] F32");
}

float* norms_from(const Tensor& norms, int64_t row) { return norms.exists() ? norms.row<float>(row) : nullptr; }

}  // namespace

void CpuBackend::quantise(Out payload, Out norms, const Tensor& x, PayloadFormat format) {
  check_payload(payload.tensor, norms.tensor, x, format);
  team_.run_pieces(x.rows(), rows_per_task(x.columns()), [&](int64_t first, int64_t rows, int) {
    loops_.quantise({payload.tensor.row<int32_t>(first), norms_from(norms.tensor, first), address(x, first), x.dtype(), format, rows, x.columns()});
  });
}

void CpuBackend::dequantise(Out y, Out norms, const Tensor& payload, PayloadFormat format) {
  check_payload(payload, norms.tensor, y.tensor, format);
  team_.run_pieces(y.tensor.rows(), rows_per_task(y.tensor.columns()), [&](int64_t first, int64_t rows, int) {
    loops_.dequantise(
        {address(y.tensor, first), norms_from(norms.tensor, first), payload.row<int32_t>(first), y.tensor.dtype(), format, rows, y.tensor.columns()});
  });
}

}  // namespace switchyard::cpu
