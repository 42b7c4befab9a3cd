#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {
namespace {

// Every dtype has a whole number of halves.
__global__ void __launch_bounds__(kBlock) zero_rows(unsigned short* data, int64_t rows, int64_t halves, int64_t stride) {
  for (int64_t i = thread_number(); i < rows * halves; i += threads_of_grid()) data[i / halves * stride + i % halves] = 0;
}

}  // namespace

void CudaBackend::zero(Out y) {
  const Tensor& t = y.tensor;
  check_device(t);
  if (t.bytes() == 0) return;
  if (t.contiguous()) {
    require(cudaMemsetAsync(t.data(), 0, static_cast<size_t>(t.bytes()), stream()), "cudaMemsetAsync");
    return;
  }
  const int64_t halves_of_element = size_of(t.dtype()) / 2, halves = t.columns() * halves_of_element;
  enqueue(&zero_rows, {blocks_for_items(t.rows() * halves), kBlock, 0, stream()}, data_of<unsigned short>(t), t.rows(), halves,
          t.row_stride() * halves_of_element);
}

void CudaBackend::copy_to_host(const Tensor& x, void* host) {
  check(x.contiguous(), "copy_to_host: expected a contiguous tensor");
  check_device(x);
  gpu_.finish();  // under the eyes of the watches, which a copy to pageable memory would not be
  if (x.bytes() == 0) return;
  require(cudaMemcpyAsync(host, x.data(), static_cast<size_t>(x.bytes()), cudaMemcpyDeviceToHost, stream()), "cudaMemcpyAsync");
  gpu_.finish();
}

// CUDA has read pageable memory when this returns; pinned memory must keep its bytes until the stream is past the copy.
void CudaBackend::copy_from_host(const void* host, Out y) {
  check(y.tensor.contiguous(), "copy_from_host: expected a contiguous tensor");
  check_device(y.tensor);
  if (y.tensor.bytes() == 0) return;
  require(cudaMemcpyAsync(y.tensor.data(), host, static_cast<size_t>(y.tensor.bytes()), cudaMemcpyHostToDevice, stream()), "cudaMemcpyAsync");
}

}  // namespace switchyard::cuda
