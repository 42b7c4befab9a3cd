// The device that tests run on: a GPU, or its emulation.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "kernels/cuda/cuda_backend.h"

namespace switchyard::cuda {

inline bool device_is_usable() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

// A backend with a device of its own.
inline std::shared_ptr<Backend> make_device_backend() {
  struct Owner {
    Gpu gpu{0};
    CudaBackend backend{gpu};
  };
  const auto owner = std::make_shared<Owner>();
  return {owner, &owner->backend};
}

}  // namespace switchyard::cuda
