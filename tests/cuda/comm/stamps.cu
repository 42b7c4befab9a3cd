#include "tests/cuda/comm/stamps.h"

#include "kernels/cuda/support.h"

namespace switchyard::cuda {
namespace {

__global__ void stamp_elements(float* x, int64_t elements, float first) {
  for (int64_t i = thread_number(); i < elements; i += threads_of_grid()) x[i] = first + static_cast<float>(i);
}

__global__ void add_to_elements(float* x, int64_t elements, float y) {
  for (int64_t i = thread_number(); i < elements; i += threads_of_grid()) x[i] += y;
}

__global__ void copy_elements(float* to, const float* from, int64_t elements) {
  for (int64_t i = thread_number(); i < elements; i += threads_of_grid()) to[i] = from[i];
}

}  // namespace

void stamp(cudaStream_t stream, const Tensor& x, float first) { enqueue(&stamp_elements, {2, kWarp, 0, stream}, x.get<float>(), x.elements(), first); }

void add(cudaStream_t stream, const Tensor& x, float y) { enqueue(&add_to_elements, {2, kWarp, 0, stream}, x.get<float>(), x.elements(), y); }

void copy(cudaStream_t stream, const Tensor& to, const Tensor& from) {
  enqueue(&copy_elements, {2, kWarp, 0, stream}, to.get<float>(), from.get<float>(), from.elements());
}

}  // namespace switchyard::cuda
