#include "tests/cuda_emulation/self_test/on_nvcc/recorded.h"

#include <device/seam.h>

namespace switchyard::cuda {
namespace {

struct Storage {
  float first[32];
};

__global__ void recorded(const float* in, long long count, float factor, float* out) {
  Storage& storage = shared_storage<Storage>();
  float* tail = dynamic_shared<float>();
  storage.first[threadIdx.x % 32] = in[threadIdx.x];
  tail[threadIdx.x] = factor;
  __syncthreads();
  if (threadIdx.x < count) out[threadIdx.x] = storage.first[0] * tail[0];
}

}  // namespace

cudaError_t launch_recorded(float* in, int count, double factor, cudaStream_t stream) {
  return launch(&recorded, {dim3(2, 3, 4), dim3(32, 2), 512, stream}, in, count, static_cast<float>(factor), nullptr);
}

}  // namespace switchyard::cuda
