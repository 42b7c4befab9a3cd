// Allocation, copies, errors, and what tests may make fail.
#include <device/seam.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/self_test/device_array.h"

namespace switchyard::emulation {
namespace {

using cuda::launch;

TEST(Memory, FreshMemoryIsNotANumberAndAligned) {
  for (const size_t size : {1u, 63u, 64u, 5000u}) {
    const DeviceArray<float> fresh(size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(fresh.data()) % 256, 0u);
    for (const float value : fresh.host()) EXPECT_TRUE(std::isnan(value));
  }
}

TEST(Memory, LiveAllocationsAreCounted) {
  const size_t allocations = live_device_allocations(), bytes = live_device_bytes();
  {
    const DeviceArray<char> a(100), b(200);
    EXPECT_EQ(live_device_allocations(), allocations + 2);
    EXPECT_EQ(live_device_bytes(), bytes + 300);
  }
  EXPECT_EQ(live_device_allocations(), allocations);
  EXPECT_EQ(live_device_bytes(), bytes);
}

TEST(Memory, CapacityIsALimit) {
  set_device_capacity(live_device_bytes() + 1000);
  void* address = nullptr;
  EXPECT_EQ(cudaMalloc(&address, 1001), cudaErrorMemoryAllocation);
  EXPECT_EQ(address, nullptr);
  EXPECT_EQ(cudaMalloc(&address, SIZE_MAX), cudaErrorMemoryAllocation);
  size_t available = 0, total = 0;
  ok(cudaMemGetInfo(&available, &total));
  EXPECT_EQ(available, 1000u);
  ok(cudaMalloc(&address, 1000));
  ok(cudaFree(address));
  set_device_capacity(size_t{8} << 30);
}

TEST(Memory, CopiesRowsOfAPitch) {
  std::vector<int> source(12);
  std::iota(source.begin(), source.end(), 0);
  DeviceArray<int> device(std::vector<int>(20, -1));
  ok(cudaMemcpy2DAsync(device.data(), 20, source.data(), 16, 12, 3, cudaMemcpyHostToDevice, nullptr));
  EXPECT_EQ(device.host(), (std::vector<int>{0, 1, 2, -1, -1, 4, 5, 6, -1, -1, 8, 9, 10, -1, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(cudaMemcpy2DAsync(device.data(), 8, source.data(), 16, 12, 3, cudaMemcpyHostToDevice, nullptr), cudaErrorInvalidValue) << "rows overlap";
}

TEST(Memory, CopiesAreChecked) {
  const DeviceArray<int> device(10);
  std::vector<int> host(11);
  EXPECT_EQ(cudaMemcpy(host.data(), device.data(), 44, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host.data(), device.data() + 1, 40, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host.data(), device.data(), 40, cudaMemcpyHostToDevice), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaMemset(host.data(), 0, 4), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(device.data(), 0, 44), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "asking clears it";
}

TEST(Memory, APageableCopyHoldsTheCallerAPinnedOneDoesNot) {
  set_progress(Progress::kDeferred);
  DeviceArray<int> device(std::vector<int>{7});
  const TestStream stream;
  int pageable = 0;
  ok(cudaMemcpyAsync(&pageable, device.data(), 4, cudaMemcpyDeviceToHost, stream));
  EXPECT_EQ(pageable, 7);
  int* pinned = nullptr;
  ok(cudaMallocHost(reinterpret_cast<void**>(&pinned), 4));
  EXPECT_EQ(*pinned, -1) << "fresh pinned memory is filled, too";
  ok(cudaMemcpyAsync(pinned, device.data(), 4, cudaMemcpyDeviceToHost, stream));
  EXPECT_EQ(*pinned, -1);
  ok(cudaStreamSynchronize(stream));
  EXPECT_EQ(*pinned, 7);
  ok(cudaFreeHost(pinned));
  set_progress(Progress::kImmediate);
}

TEST(Memory, FreeAsyncIsWorkOfItsStream) {
  set_progress(Progress::kDeferred);
  const size_t before = live_device_allocations();
  const TestStream stream;
  void* address = nullptr;
  ok(cudaMallocAsync(&address, 16, stream));
  ok(cudaFreeAsync(address, stream));
  EXPECT_EQ(live_device_allocations(), before + 1);
  ok(cudaStreamSynchronize(stream));
  EXPECT_EQ(live_device_allocations(), before);
  set_progress(Progress::kImmediate);
}

TEST(Memory, KnowsWhereAPointerPoints) {
  const DeviceArray<int> device(4);
  int host = 0;
  cudaPointerAttributes attributes{};
  ok(cudaPointerGetAttributes(&attributes, device.data() + 3));
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  ok(cudaPointerGetAttributes(&attributes, &host));
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
}

TEST(Memory, IsReadableByKernelsUnderIsolation) {
  DeviceArray<int> device(std::vector<int>{1, 2, 3});
  set_isolation(true);
  EXPECT_EQ(device.host(), (std::vector<int>{1, 2, 3}));
  const DeviceArray<int> fresh(3);
  ok(cudaMemcpy(fresh.data(), device.data(), 12, cudaMemcpyDeviceToDevice));
  EXPECT_EQ(fresh.host(), (std::vector<int>{1, 2, 3}));
  set_isolation(false);
}

__global__ void nothing(int*) {}

TEST(Failures, AreInjectedIntoTheNextCallOnly) {
  const DeviceArray<int> device(1);
  void* address = nullptr;
  fail_next_call(cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&address, 4), cudaErrorMemoryAllocation);
  fail_next_call(cudaErrorIllegalAddress);
  EXPECT_EQ(launch(&nothing, {1, 32}, device.data()), cudaErrorIllegalAddress);
  fail_next_call(cudaErrorInsufficientDriver);
  int count = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
  EXPECT_EQ(count, -1);
  ok(launch(&nothing, {1, 32}, device.data()));
  EXPECT_EQ(cudaGetLastError(), cudaErrorInsufficientDriver);
}

TEST(Failures, ShapesThatNoDeviceTakesAreRefused) {
  const DeviceArray<int> device(1);
  EXPECT_EQ(launch(&nothing, {1, 1025}, device.data()), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(&nothing, {0, 32}, device.data()), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(&nothing, {dim3(1, 65536), 32}, device.data()), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(&nothing, {1, 32, 48 * 1024 + 1}, device.data()), cudaErrorInvalidValue);
  const auto kernel = reinterpret_cast<const void*>(&nothing);
  EXPECT_EQ(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 * 1024), cudaErrorInvalidValue);
  ok(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 * 1024));
  ok(launch(&nothing, {1, 32, 100 * 1024}, device.data()));
  cudaGetLastError();
}

TEST(Devices, AreAsManyAsTheEnvironmentSays) {
  int count = -1;
  ASSERT_EQ(setenv("CUDA_EMULATION_DEVICES", "0", 1), 0);
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  ASSERT_EQ(setenv("CUDA_EMULATION_DEVICES", "4", 1), 0);
  ok(cudaGetDeviceCount(&count));
  EXPECT_EQ(count, 4);
  ok(cudaSetDevice(3));
  EXPECT_EQ(cudaSetDevice(4), cudaErrorInvalidDevice);
  ok(cudaGetDevice(&count));
  EXPECT_EQ(count, 3);
  int can = -1;
  ok(cudaDeviceCanAccessPeer(&can, 0, 3));
  EXPECT_EQ(can, 1);
  ok(cudaSetDevice(0));
  ASSERT_EQ(unsetenv("CUDA_EMULATION_DEVICES"), 0);
  cudaDeviceProp properties{};
  ok(cudaGetDeviceProperties(&properties, 0));
  EXPECT_EQ(properties.major, 9);
  EXPECT_EQ(properties.warpSize, 32);
  cudaGetLastError();
}

}  // namespace
}  // namespace switchyard::emulation
