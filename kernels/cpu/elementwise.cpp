#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

constexpr int64_t kPiece = 64 * 1024;  // elements that one task works on

bool is_float(Dtype dtype) { return dtype != Dtype::kI32; }

void check_like(const Tensor& y, const Tensor& x, const char* sentence) {
  check_activation(x, sentence);
  check(y.dtype() == x.dtype() && y.shape() == x.shape() && y.contiguous() && x.contiguous(), sentence);
}

}  // namespace

void CpuBackend::convert(Target y, const Tensor& x) {
  check(y.tensor.shape() == x.shape() && y.tensor.contiguous() && x.contiguous() && is_float(x.dtype()) && is_float(y.tensor.dtype()),
        "convert: expected contiguous float tensors of one shape");
  const Dtype to = y.tensor.dtype(), from = x.dtype();
  team_.run_pieces(x.elements(), kPiece, [&](int64_t first, int64_t count, int) {
    loops_.convert(static_cast<char*>(y.tensor.data()) + first * size_of(to), to, static_cast<const char*>(x.data()) + first * size_of(from), from, count,
                   y.add);
  });
}

void CpuBackend::add(Out y, const Tensor& a, const Tensor& b, const Dropout& dropout) {
  check_like(y.tensor, a, "add: expected three contiguous tensors of one dtype and shape");
  check_like(y.tensor, b, "add: expected three contiguous tensors of one dtype and shape");
  team_.run_pieces(a.rows(), rows_per_task(a.columns()), [&](int64_t first, int64_t rows, int) {
    loops_.add_rows({address(y.tensor, first), address(a, first), address(b, first), a.dtype(), rows, a.columns(), draw_of(dropout, first)});
  });
}

void CpuBackend::dropout(Out y, const Tensor& x, const Dropout& dropout) {
  check_like(y.tensor, x, "dropout: expected contiguous tensors of one dtype and shape");
  team_.run_pieces(x.rows(), rows_per_task(x.columns()), [&](int64_t first, int64_t rows, int) {
    loops_.add_rows({address(y.tensor, first), nullptr, address(x, first), x.dtype(), rows, x.columns(), draw_of(dropout, first)});
  });
}

void CpuBackend::jitter(Target y, const Tensor& x, double epsilon, const Random& random) {
  check_activation(x, "jitter: expected x exact or activation");
  check(y.tensor.dtype() == Dtype::kF32 && y.tensor.shape() == x.shape() && y.tensor.contiguous() && x.contiguous(),
        "jitter: expected contiguous tensors of one shape, y exact");
  team_.run_pieces(x.rows(), rows_per_task(x.columns()), [&](int64_t first, int64_t rows, int) {
    Draw draw = draw_of(random);
    draw.first_index += static_cast<uint64_t>(first);
    draw.active = epsilon > 0;
    draw.base = static_cast<float>(1.0 - epsilon);
    draw.scale = static_cast<float>(2.0 * epsilon);
    loops_.jitter_rows({y.tensor.row<float>(first), address(x, first), x.dtype(), y.add, rows, x.columns(), draw});
  });
}

}  // namespace switchyard::cpu
