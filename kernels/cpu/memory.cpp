#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard {

std::unique_ptr<Backend> make_cpu_backend(int threads) {
  check(threads >= 1, "make_cpu_backend: expected at least one thread");
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("x86-64-v3")) {
    throw Error(ExitCode::kUsage, "expected a processor with x86-64-v3 (AVX2 and FMA), found an older one; use another machine");
  }
  return std::make_unique<cpu::CpuBackend>(threads, __builtin_cpu_supports("x86-64-v4") ? cpu::loops_v4() : cpu::loops_v3());
}

bool cpu_has_fast_bf16() { return cpu::has_amx(); }

namespace cpu {

void CpuBackend::zero(Out y) {
  const Tensor& t = y.tensor;
  const int64_t row_bytes = t.columns() * size_of(t.dtype());
  if (row_bytes == 0) return;
  if (t.contiguous()) {
    team_.run_pieces(t.bytes(), int64_t{1} << 20,
                     [&](int64_t first, int64_t count, int) { std::memset(static_cast<char*>(t.data()) + first, 0, static_cast<size_t>(count)); });
    return;
  }
  for (int64_t r = 0; r < t.rows(); ++r) std::memset(address(t, r), 0, static_cast<size_t>(row_bytes));
}

void CpuBackend::copy_to_host(const Tensor& x, void* host) {
  check(x.contiguous(), "copy_to_host: expected a contiguous tensor");
  if (x.bytes() > 0) std::memcpy(host, x.data(), static_cast<size_t>(x.bytes()));
}

void CpuBackend::copy_from_host(const void* host, Out y) {
  check(y.tensor.contiguous(), "copy_from_host: expected a contiguous tensor");
  if (y.tensor.bytes() > 0) std::memcpy(y.tensor.data(), host, static_cast<size_t>(y.tensor.bytes()));
}

}  // namespace cpu
}  // namespace switchyard
