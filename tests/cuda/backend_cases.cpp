// The device's backend behind a mirror, for the tests of tests/kernels.
#include "tests/cuda/device.h"
#include "tests/cuda/mirror.h"
#include "tests/kernels/backend_case.h"

namespace switchyard {

std::vector<BackendCase> backend_cases() {
  const auto make = []() -> std::unique_ptr<Backend> {
    if (!cuda::device_is_usable()) return nullptr;
    return std::make_unique<Mirror>(cuda::make_device_backend());
  };
  // Smaller than on the CPU: an emulated device computes a few million products a second.
  const Extents extents{130, 72, 65, 3, 301, 17, 20001, {64, 256}};
  return {{"cuda_F32", make, Dtype::kF32, false, extents}, {"cuda_BF16", make, Dtype::kBF16, false, extents}};
}

std::vector<BackendCase> invariance_cases() { return backend_cases(); }

}  // namespace switchyard
