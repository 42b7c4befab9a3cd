// The three spellings of CUDA that only nvcc can read, as functions, so that a kernel's file is C++ for every compiler.
//
//   launch(&kernel, {grid, block, shared_bytes, stream}, arguments...)   kernel<<<grid, block, shared_bytes, stream>>>(arguments...)
//   Storage& storage = shared_storage<Storage>();                        __shared__ Storage storage;
//   float* tail = dynamic_shared<float>();                               extern __shared__ float tail[];
//
// Kernels write only these. Include it as <device/seam.h>.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

namespace switchyard::cuda {

struct LaunchShape {
  dim3 grid;                      // blocks
  dim3 block;                     // threads of a block, a multiple of 32, at most 256
  size_t shared_bytes = 0;        // dynamic
  cudaStream_t stream = nullptr;  // production code never leaves it at the default stream
};

// One variable per type and kernel: the block's own, without initial value.
template <class Storage>
[[nodiscard]] __device__ __forceinline__ Storage& shared_storage() {
  static_assert(std::is_trivially_default_constructible_v<Storage>, "shared memory runs no constructors");
  __shared__ Storage storage;
  return storage;
}

// The launch's shared_bytes, aligned to 16 bytes.
template <class Element>
[[nodiscard]] __device__ __forceinline__ Element* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[];
  return reinterpret_cast<Element*>(dynamic_shared_bytes);
}

// Converts the arguments to the kernel's parameters and enqueues it. Returns the launch's own error; what goes wrong in the
// kernel shows at a later synchronisation.
template <class... Parameters, class... Arguments>
[[nodiscard]] cudaError_t launch(void (*kernel)(Parameters...), const LaunchShape& shape, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "as many arguments as the kernel has parameters");
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = shape.stream;
  std::tuple<std::remove_cv_t<Parameters>...> bound(std::forward<Arguments>(arguments)...);
  return std::apply(
      [&](auto&... values) {
        void* addresses[] = {static_cast<void*>(&values)..., nullptr};
        return cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), addresses);
      },
      bound);
}

}  // namespace switchyard::cuda
