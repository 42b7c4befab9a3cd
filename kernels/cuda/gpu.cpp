#include "kernels/cuda/gpu.h"

#include <string>
#include <thread>

namespace switchyard::cuda {
namespace {

Error out_of_memory(int64_t bytes, const char* where, cudaError_t status) {
  return Error(ExitCode::kFailure, "expected " + std::to_string(bytes) + " bytes of " + where + ", CUDA says: " + cudaGetErrorString(status) +
                                       "; use a smaller model or micro-batch");
}

}  // namespace

void require(cudaError_t status, const char* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  throw Error(ExitCode::kFailure, std::string(call) + " failed: " + cudaGetErrorName(status) + ": " + cudaGetErrorString(status));
}

bool Mark::reached() const {
  const cudaError_t status = cudaEventQuery(event_);
  if (status == cudaErrorNotReady) return false;
  require(status, "cudaEventQuery");
  return true;
}

void Gpu::finish(cudaStream_t stream) {
  if (watches_.empty()) return require(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  end_.record(stream);
  Patience patience;
  while (!end_.reached()) {
    const double seconds = patience.seconds();
    for (Watch* watch : watches_) {
      if (const std::optional<Error> error = watch->look(seconds)) {
        abandon();
        throw Error(*error);
      }
    }
    std::this_thread::yield();
  }
}

void* DeviceMemory::take(int64_t bytes) {
  void* data = nullptr;
  if (const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(bytes)); status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // memory may be had again later
    throw out_of_memory(bytes, "the GPU's memory", status);
  }
  require(cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), stream_), "cudaMemsetAsync");
  require(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  return data;
}

void DeviceMemory::give_back(void* data, int64_t) noexcept { static_cast<void>(cudaFree(data)); }

void* PinnedMemory::take(int64_t bytes) {
  void* data = nullptr;
  if (const cudaError_t status = cudaMallocHost(&data, static_cast<size_t>(bytes)); status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    throw out_of_memory(bytes, "pinned host memory", status);
  }
  __builtin_memset(data, 0, static_cast<size_t>(bytes));
  return data;
}

void PinnedMemory::give_back(void* data, int64_t) noexcept { static_cast<void>(cudaFreeHost(data)); }

}  // namespace switchyard::cuda
