// The backend that tests of layers and models compare with the reference, on host tensors: the CPU's, or in executables of
// tests/cuda a device's (tests/cuda/mirror.h).
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace switchyard::test {

std::unique_ptr<Backend> backend_under_test(int threads);

}  // namespace switchyard::test
