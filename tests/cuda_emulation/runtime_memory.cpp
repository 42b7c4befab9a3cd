// Allocations, copies and fills.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/runtime.h"

using namespace switchyard::emulation;

namespace {

struct Copy {
  void* target;
  size_t target_pitch;  // bytes from one row to the next
  const void* source;
  size_t source_pitch;
  size_t width;  // bytes of a row
  size_t height;
  cudaMemcpyKind kind;
};

bool is_pageable(const void* address) { return device_bytes_from(address) == 0 && !is_pinned_host(address); }

cudaError_t check_copy(const Copy& copy) {
  if (copy.target_pitch < copy.width || copy.source_pitch < copy.width) return cudaErrorInvalidValue;
  const size_t target_extent = copy.target_pitch * (copy.height - 1) + copy.width;
  const size_t source_extent = copy.source_pitch * (copy.height - 1) + copy.width;
  const size_t target_room = device_bytes_from(copy.target);
  const size_t source_room = device_bytes_from(copy.source);
  if ((target_room != 0 && target_room < target_extent) || (source_room != 0 && source_room < source_extent)) return cudaErrorInvalidValue;
  if (copy.kind == cudaMemcpyDefault) return cudaSuccess;
  const bool to_device = copy.kind == cudaMemcpyHostToDevice || copy.kind == cudaMemcpyDeviceToDevice;
  const bool from_device = copy.kind == cudaMemcpyDeviceToHost || copy.kind == cudaMemcpyDeviceToDevice;
  return to_device == (target_room != 0) && from_device == (source_room != 0) ? cudaSuccess : cudaErrorInvalidMemcpyDirection;
}

void run_copy(const Copy& copy) {
  for (size_t row = 0; row < copy.height; ++row) {
    std::memmove(static_cast<std::byte*>(copy.target) + row * copy.target_pitch, static_cast<const std::byte*>(copy.source) + row * copy.source_pitch,
                 copy.width);
  }
}

cudaError_t enqueue_copy(const Copy& copy, cudaStream_t stream) {
  if (copy.width == 0 || copy.height == 0) return cudaSuccess;
  if (const cudaError_t invalid = check_copy(copy); invalid != cudaSuccess) return remember(invalid);
  const cudaError_t error = enqueue(stream, [copy] { run_copy(copy); });
  // As the hardware does: a copy from or to pageable memory holds the caller.
  if (error == cudaSuccess && (is_pageable(copy.target) || is_pageable(copy.source))) {
    run_stream(*find_stream(stream));
    return remember(runtime().broken);
  }
  return error;
}

cudaError_t allocate_into(void** address, size_t size, MemoryKind kind) {
  if (address == nullptr) return remember(cudaErrorInvalidValue);
  *address = nullptr;
  if (const cudaError_t injected = take_injected(); injected != cudaSuccess) return injected;
  if (runtime().broken != cudaSuccess) return remember(runtime().broken);
  if (size == 0) return cudaSuccess;
  *address = allocate(size, kind);
  return remember(*address != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

// Waits for all work first, as cudaFree does: what is freed may be in use.
cudaError_t free_after_all(void* address, MemoryKind kind) {
  run_all_streams();
  if (address != nullptr && !release(address, kind)) return remember(cudaErrorInvalidValue);
  return remember(runtime().broken);
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** address, size_t size) { return allocate_into(address, size, MemoryKind::kDevice); }
cudaError_t cudaFree(void* address) { return free_after_all(address, MemoryKind::kDevice); }

cudaError_t cudaMallocAsync(void** address, size_t size, cudaStream_t stream) {
  if (find_stream(stream) == nullptr) return remember(cudaErrorInvalidResourceHandle);
  return cudaMalloc(address, size);
}

cudaError_t cudaFreeAsync(void* address, cudaStream_t stream) {
  if (device_bytes_from(address) == 0) return remember(cudaErrorInvalidValue);
  return enqueue(stream, [address] {
    if (!release(address, MemoryKind::kDevice)) break_device("cudaFreeAsync of memory that was freed already, or of the middle of an allocation");
  });
}

cudaError_t cudaHostAlloc(void** address, size_t size, unsigned) { return allocate_into(address, size, MemoryKind::kPinnedHost); }
cudaError_t cudaMallocHost(void** address, size_t size) { return cudaHostAlloc(address, size, 0); }
cudaError_t cudaFreeHost(void* address) { return free_after_all(address, MemoryKind::kPinnedHost); }

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  *total = device_capacity();
  *available = *total - std::min(*total, live_device_bytes());
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const bool device = device_bytes_from(pointer) != 0;
  const bool pinned = is_pinned_host(pointer);
  *attributes = {};
  attributes->type = device ? cudaMemoryTypeDevice : pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  attributes->device = device || pinned ? runtime().ordinal : -2;  // cudaInvalidDeviceId
  attributes->devicePointer = device || pinned ? const_cast<void*>(pointer) : nullptr;
  attributes->hostPointer = device ? nullptr : const_cast<void*>(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  return enqueue_copy({target, size, source, size, size, 1, kind}, stream);
}

cudaError_t cudaMemcpy(void* target, const void* source, size_t size, cudaMemcpyKind kind) {
  if (const cudaError_t error = cudaMemcpyAsync(target, source, size, kind, nullptr); error != cudaSuccess) return error;
  run_stream(runtime().default_stream);
  return remember(runtime().broken);
}

cudaError_t cudaMemcpy2DAsync(void* target, size_t target_pitch, const void* source, size_t source_pitch, size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return enqueue_copy({target, target_pitch, source, source_pitch, width, height, kind}, stream);
}

cudaError_t cudaMemsetAsync(void* target, int value, size_t size, cudaStream_t stream) {
  if (size == 0) return cudaSuccess;
  if (device_bytes_from(target) < size) return remember(cudaErrorInvalidValue);
  return enqueue(stream, [=] { std::memset(target, value, size); });
}

cudaError_t cudaMemset(void* target, int value, size_t size) { return cudaMemsetAsync(target, value, size, nullptr); }

}  // extern "C"
