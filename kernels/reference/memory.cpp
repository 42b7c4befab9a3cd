#include <cstring>

#include "kernels/reference/reference_backend.h"

namespace switchyard {

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<reference::ReferenceBackend>(); }

namespace reference {

void ReferenceBackend::zero(Out y) {
  const Tensor& t = y.tensor;
  const int64_t size = size_of(t.dtype());
  if (t.columns() == 0) return;
  for (int64_t r = 0; r < t.rows(); ++r) {
    std::memset(static_cast<char*>(t.data()) + r * t.row_stride() * size, 0, static_cast<size_t>(t.columns() * size));
  }
}

void ReferenceBackend::copy_to_host(const Tensor& x, void* host) {
  check(x.contiguous(), "copy_to_host: expected a contiguous tensor");
  if (x.bytes() > 0) std::memcpy(host, x.data(), static_cast<size_t>(x.bytes()));
}

void ReferenceBackend::copy_from_host(const void* host, Out y) {
  check(y.tensor.contiguous(), "copy_from_host: expected a contiguous tensor");
  if (y.tensor.bytes() > 0) std::memcpy(y.tensor.data(), host, static_cast<size_t>(y.tensor.bytes()));
}

}  // namespace reference
}  // namespace switchyard
