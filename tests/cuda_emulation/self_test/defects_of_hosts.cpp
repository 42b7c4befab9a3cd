// Host programs that are wrong in one way each, with kernels that are right.
#include <device/seam.h>

#include <thread>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/self_test/defects.h"
#include "tests/cuda_emulation/self_test/device_array.h"

namespace switchyard::emulation {
namespace {

using cuda::launch;

__global__ void fill(float* out, float value, int n) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) out[i] = value;
}

__global__ void twice(float* out, const float* in, int n) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) out[i] = 2 * in[i];
}

void host_reads_device_memory() {
  const DeviceArray<float> device(1);
  set_isolation(true);
  const volatile float* pointer = device.data();
  static_cast<void>(*pointer);
}

void kernel_gets_host_pointer() {
  float host[64] = {};
  settle(launch(&fill, {1, 64}, host, 1.0f, 64));
}

void kernel_gets_freed_pointer() {
  float* freed = nullptr;
  ok(cudaMalloc(reinterpret_cast<void**>(&freed), 256));
  ok(cudaFree(freed));
  const DeviceArray<float> next(64);  // which must not take the same address
  settle(launch(&fill, {1, 64}, freed, 1.0f, 64));
}

void copy_past_the_end() {
  const DeviceArray<float> device(100);
  std::vector<float> host(101);
  settle(cudaMemcpy(host.data(), device.data(), 404, cudaMemcpyDeviceToHost));
}

void copy_of_the_wrong_kind() {
  const DeviceArray<float> device(100);
  std::vector<float> host(100);
  settle(cudaMemcpy(host.data(), device.data(), 400, cudaMemcpyHostToDevice));
}

void missing_stream_synchronisation() {
  set_progress(Progress::kDeferred);
  const DeviceArray<float> device(100);
  const TestStream stream;
  float* pinned = nullptr;
  ok(cudaMallocHost(reinterpret_cast<void**>(&pinned), 400));
  ok(launch(&fill, {1, 64, 0, stream}, device.data(), 1.0f, 100));
  ok(cudaMemcpyAsync(pinned, device.data(), 400, cudaMemcpyDeviceToHost, stream));
  if (pinned[0] != 1.0f) notice("a stale value");
}

void missing_event_wait() {
  DeviceArray<float> in(4096);
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    set_progress(Progress::kDeferred, seed);
    in.zero();
    const DeviceArray<float> out(4096);
    const TestStream first, second;
    ok(launch(&fill, {1, 64, 0, first}, in.data(), 3.0f, 4096));
    ok(launch(&twice, {1, 64, 0, second}, out.data(), in.data(), 4096));
    ok(cudaDeviceSynchronize());
    if (out.host()[7] != 6.0f) notice("a wrong value with seed " + std::to_string(seed));
  }
}

void too_many_threads() {
  const DeviceArray<float> out(1);
  settle(launch(&fill, {1, 1025}, out.data(), 1.0f, 1));
}

void too_much_shared_memory() {
  const DeviceArray<float> out(1);
  settle(launch(&fill, {1, 32, 49 * 1024}, out.data(), 1.0f, 1));
}

void second_host_thread() {
  const DeviceArray<float> out(1);
  std::thread([] { cudaDeviceSynchronize(); }).join();
}

constexpr Defect kDefects[] = {
    {"host_reads_device_memory", &host_reads_device_memory},
    {"kernel_gets_host_pointer", &kernel_gets_host_pointer},
    {"kernel_gets_freed_pointer", &kernel_gets_freed_pointer},
    {"copy_past_the_end", &copy_past_the_end},
    {"copy_of_the_wrong_kind", &copy_of_the_wrong_kind},
    {"missing_stream_synchronisation", &missing_stream_synchronisation},
    {"missing_event_wait", &missing_event_wait},
    {"too_many_threads", &too_many_threads},
    {"too_much_shared_memory", &too_much_shared_memory},
    {"second_host_thread", &second_host_thread},
};

}  // namespace

std::span<const Defect> defects_of_hosts() { return kDefects; }

}  // namespace switchyard::emulation
