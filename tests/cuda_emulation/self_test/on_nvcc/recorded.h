// A launch through the seam, as nvcc compiles it.
#pragma once

#include <cuda_runtime_api.h>

namespace switchyard::cuda {

// The arguments are converted to the kernel's parameters: (const float*, long long, float, float*).
cudaError_t launch_recorded(float* in, int count, double factor, cudaStream_t stream);

}  // namespace switchyard::cuda
