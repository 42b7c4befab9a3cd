// Devices, their properties, and errors.
#include <cuda_runtime_api.h>
#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/runtime.h"

namespace switchyard::emulation {
namespace {

// The emulation takes no locks: CUDA's own calls are safe between threads, these are not.
void check_host_thread() {
  static const pthread_t first = pthread_self();
  if (pthread_equal(first, pthread_self()) != 0) return;
  std::fprintf(stderr, "CUDA emulation: a second thread of this process calls CUDA; only the first that did may\n");
  std::abort();
}

constexpr std::pair<cudaError_t, const char*> kNames[] = {
    {cudaSuccess, "cudaSuccess"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection"},
    {cudaErrorStubLibrary, "cudaErrorStubLibrary"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver"},
    {cudaErrorNoDevice, "cudaErrorNoDevice"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle"},
    {cudaErrorNotReady, "cudaErrorNotReady"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported"},
    {cudaErrorUnknown, "cudaErrorUnknown"},
};

bool is_device(int ordinal) { return ordinal >= 0 && ordinal < device_count(); }

}  // namespace

Runtime& runtime() {
  check_host_thread();
  static Runtime* const the_runtime = new Runtime;  // freed by nobody: destructors at the very end may still call
  return *the_runtime;
}

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) runtime().last_error = error;
  return error;
}

cudaError_t take_injected() {
  const cudaError_t error = runtime().injected.value_or(cudaSuccess);
  runtime().injected.reset();
  return remember(error);
}

void fail_next_call(cudaError_t error) { runtime().injected = error; }

// Controls of a process that nobody can call: a program that opened the emulation as a plug-in.
//   CUDA_EMULATION_ORDER=reverse | random     CUDA_EMULATION_LATE=1 | seed     CUDA_EMULATION_ISOLATED=1
static void obey_environment() {
  const auto value = [](const char* name) { return std::string(std::getenv(name) == nullptr ? "" : std::getenv(name)); };
  const std::string order = value("CUDA_EMULATION_ORDER"), late = value("CUDA_EMULATION_LATE");
  if (!order.empty()) set_schedule({order == "reverse" ? Order::kReverse : Order::kRandom, 1});
  if (!late.empty()) set_progress(Progress::kDeferred, late == "1" ? 0 : std::strtoull(late.c_str(), nullptr, 10));
  if (!value("CUDA_EMULATION_ISOLATED").empty()) set_isolation(true);
}

int device_count() {
  const char* text = std::getenv("CUDA_EMULATION_DEVICES");
  return text == nullptr ? 1 : std::atoi(text);
}

}  // namespace switchyard::emulation

using namespace switchyard::emulation;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  if (const cudaError_t injected = take_injected(); injected != cudaSuccess) return injected;
  static const bool obeyed = (obey_environment(), true);
  static_cast<void>(obeyed);
  *count = device_count();
  return remember(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int ordinal) {
  if (!is_device(ordinal)) return remember(cudaErrorInvalidDevice);
  runtime().ordinal = ordinal;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* ordinal) {
  *ordinal = runtime().ordinal;
  return device_count() > 0 ? cudaSuccess : remember(cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int ordinal) {
  if (!is_device(ordinal)) return remember(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "CUDA emulation on the host");
  properties->major = 9;
  properties->minor = 0;
  properties->warpSize = 32;
  properties->multiProcessorCount = 4;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->sharedMemPerBlock = kDefaultSharedLimit;
  properties->sharedMemPerBlockOptin = kLargestSharedLimit;
  properties->totalGlobalMem = device_capacity();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int ordinal) {
  if (!is_device(ordinal)) return remember(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 4; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = kLargestSharedLimit; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; return cudaSuccess;
    default: return remember(cudaErrorNotSupported);
  }
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int ordinal, int peer) {
  if (!is_device(ordinal) || !is_device(peer)) return remember(cudaErrorInvalidDevice);
  *can = ordinal != peer ? 1 : 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return remember(cudaErrorNotSupported);
  if (value < 0 || value > kLargestSharedLimit) return remember(cudaErrorInvalidValue);
  runtime().dynamic_shared_limit[kernel] = value;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return std::exchange(runtime().last_error, runtime().broken); }

cudaError_t cudaPeekAtLastError() { return runtime().last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  const auto found = std::find_if(std::begin(kNames), std::end(kNames), [error](const auto& entry) { return entry.first == error; });
  return found != std::end(kNames) ? found->second : "an error that the emulation does not name";
}

const char* cudaGetErrorString(cudaError_t error) { return error == cudaErrorLaunchFailure && *last_fault() != '\0' ? last_fault() : cudaGetErrorName(error); }

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t injected = take_injected(); injected != cudaSuccess) return injected;
  run_all_streams();
  return remember(runtime().broken);
}

// Mends the device. Memory, streams and events stay, unlike CUDA's, so that a test can go on after a fault.
cudaError_t cudaDeviceReset() {
  run_all_streams();
  runtime().broken = cudaSuccess;
  runtime().last_error = cudaSuccess;
  return cudaSuccess;
}

}  // extern "C"
