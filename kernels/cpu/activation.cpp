#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

void check_like(const Tensor& x, const Tensor& u, const char* sentence) { check(x.dtype() == u.dtype() && x.shape() == u.shape() && x.contiguous(), sentence); }

// What both directions share; rows from `first` on.
ActivateRows rows_of(const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout, int64_t first, int64_t rows) {
  ActivateRows args{};
  args.dtype = u.dtype();
  args.gelu = activation == Activation::kGelu;
  args.rows = rows;
  args.columns = u.columns();
  args.u = address(u, first);
  args.gate = gate.exists() ? address(gate, first) : nullptr;
  args.draw = draw_of(dropout, first);
  return args;
}

}  // namespace

void CpuBackend::activate(Out h, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) {
  check_activation(u, "activate: expected F32 or BF16");
  check_like(u, u, "activate: expected u [n, F], contiguous");
  check_like(h.tensor, u, "activate: expected h like u");
  if (gate.exists()) check_like(gate, u, "activate: expected gate like u");
  team_.run_pieces(u.rows(), rows_per_task(u.columns()), [&](int64_t first, int64_t rows, int) {
    ActivateRows args = rows_of(u, gate, activation, dropout, first, rows);
    args.h = address(h.tensor, first);
    loops_.activate(args);
  });
}

void CpuBackend::activate_backward(Out du, Out dgate, const Tensor& dh, const Tensor& u, const Tensor& gate, Activation activation, const Dropout& dropout) {
  check_activation(u, "activate_backward: expected F32 or BF16");
  check_like(u, u, "activate_backward: expected u [n, F], contiguous");
  check_like(dh, u, "activate_backward: expected dh like u");
  check_like(du.tensor, u, "activate_backward: expected du like u");
  check(gate.exists() == dgate.tensor.exists(), "activate_backward: expected dgate where there is a gate, and only there");
  if (gate.exists()) {
    check_like(gate, u, "activate_backward: expected gate like u");
    check_like(dgate.tensor, u, "activate_backward: expected dgate like u");
  }
  team_.run_pieces(u.rows(), rows_per_task(u.columns()), [&](int64_t first, int64_t rows, int) {
    ActivateRows args = rows_of(u, gate, activation, dropout, first, rows);
    args.dh = address(dh, first);
    args.du = address(du.tensor, first);
    args.dgate = gate.exists() ? address(dgate.tensor, first) : nullptr;
    loops_.activate_backward(args);
  });
}

}  // namespace switchyard::cpu
