// The seam of kernels/cuda/device/seam.h for the emulated device: the same names, found first on the include path.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/cuda_emulation/device_language.h"
#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/runtime.h"

namespace switchyard::cuda {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

template <class Storage>
[[nodiscard]] Storage& shared_storage() {
  static_assert(std::is_trivially_default_constructible_v<Storage>, "shared memory runs no constructors");
  static emulation::SharedVariable variable{sizeof(Storage), alignof(Storage)};
  return *static_cast<Storage*>(emulation::shared_variable(variable));
}

template <class Element>
[[nodiscard]] Element* dynamic_shared() {
  return static_cast<Element*>(emulation::dynamic_shared_memory());
}

template <class... Parameters, class... Arguments>
[[nodiscard]] cudaError_t launch(void (*kernel)(Parameters...), const LaunchShape& shape, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "as many arguments as the kernel has parameters");
  const std::tuple<std::remove_cv_t<Parameters>...> bound(std::forward<Arguments>(arguments)...);
  const bool valid = std::apply([](const auto&... values) { return emulation::arguments_are_valid(values...); }, bound);
  if (!valid) return emulation::remember(cudaErrorInvalidValue);
  return emulation::launch_grid({shape.grid, shape.block, shape.shared_bytes, shape.stream, reinterpret_cast<const void*>(kernel)},
                                [kernel, bound] { std::apply(kernel, bound); });
}

}  // namespace switchyard::cuda
