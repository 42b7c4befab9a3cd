// A device's memory, its streams, and copies between it and the host.
#include "kernels/cuda/gpu.h"

#include <device/schedules.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "tests/cuda/device.h"

namespace switchyard::cuda {
namespace {

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!device_is_usable()) GTEST_SKIP() << "this machine has no GPU";
    gpu = std::make_unique<Gpu>(0);
  }
  std::vector<float> host_copy(const float* data, size_t count) {
    std::vector<float> host(count);
    gpu->finish();
    require(cudaMemcpy(host.data(), data, count * sizeof(float), cudaMemcpyDefault), "cudaMemcpy");
    return host;
  }

  std::unique_ptr<Gpu> gpu;
};

TEST_F(GpuTest, MemoryIsZeroFilledAndAligned) {
  for (Memory* memory : {&gpu->memory(), &gpu->pinned()}) {
    const Buffer buffer(4 * 1001, *memory);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    EXPECT_EQ(host_copy(static_cast<const float*>(buffer.data()), 1001), std::vector<float>(1001, 0.0f));
  }
  EXPECT_EQ(gpu->memory().device(), Device::kCuda);
  EXPECT_EQ(gpu->pinned().device(), Device::kHost);
}

TEST_F(GpuTest, SaysHowMuchMemoryWasAskedForAndGoesOn) {
  for (Memory* memory : {&gpu->memory(), &gpu->pinned()}) {
    try {
      const Buffer buffer(int64_t{1} << 50, *memory);
      FAIL() << "2^50 bytes were given";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kFailure);
      EXPECT_NE(std::string(error.what()).find(std::to_string(int64_t{1} << 50)), std::string::npos) << error.what();
    }
    EXPECT_NO_THROW(Buffer(64, *memory)) << "an error that was reported once is over";
  }
}

TEST_F(GpuTest, ACallThatFailsIsNamedWithCudasWords) {
  EXPECT_NO_THROW(require(cudaSuccess, "cudaMalloc"));
  try {
    require(cudaErrorInvalidValue, "cudaMalloc");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("cudaMalloc failed: cudaErrorInvalidValue"), std::string::npos) << error.what();
  }
}

TEST_F(GpuTest, AMarkHoldsBackAnotherStream) {
  constexpr int64_t kElements = 1000;
  const Buffer from(4 * kElements, gpu->pinned()), there(4 * kElements, gpu->memory()), back(4 * kElements, gpu->pinned());
  auto *first = static_cast<float*>(from.data()), *last = static_cast<float*>(back.data());
  for (int64_t i = 0; i < kElements; ++i) first[i] = static_cast<float>(i + 1);
  Mark sent;
  const std::vector<float> arrived = same_under_every_schedule([&] {
    std::memset(last, 0, 4 * kElements);
    require(cudaMemcpyAsync(there.data(), first, 4 * kElements, cudaMemcpyHostToDevice, gpu->compute()), "cudaMemcpyAsync");
    sent.record(gpu->compute());
    sent.hold_back(gpu->transfers());
    require(cudaMemcpyAsync(last, there.data(), 4 * kElements, cudaMemcpyDeviceToHost, gpu->transfers()), "cudaMemcpyAsync");
    gpu->finish(gpu->transfers());
    return std::vector<float>(last, last + kElements);
  });
  EXPECT_EQ(arrived, std::vector<float>(first, first + kElements));
}

// Finds nothing wrong.
class QuietWatch final : public Watch {
 public:
  std::optional<Error> look(double) override { return std::nullopt; }
  void abandon() noexcept override {}
};

TEST_F(GpuTest, WaitsForAStreamToItsEndAlsoWhereSomebodyWatches) {
  constexpr size_t kBytes = 1000;
  const Buffer device(kBytes, gpu->memory()), pinned(kBytes, gpu->pinned());
  QuietWatch watch;
  gpu->add(watch);
  const std::vector<char> arrived = same_under_every_schedule([&] {
    char* const last = static_cast<char*>(pinned.data());
    std::memset(last, 0, kBytes);
    require(cudaMemsetAsync(device.data(), 7, kBytes, gpu->compute()), "cudaMemsetAsync");
    require(cudaMemcpyAsync(last, device.data(), kBytes, cudaMemcpyDeviceToHost, gpu->compute()), "cudaMemcpyAsync");
    gpu->finish();
    return std::vector<char>(last, last + kBytes);
  });
  EXPECT_EQ(arrived, std::vector<char>(kBytes, 7));
  gpu->remove(watch);
}

// Pinned memory, to which the device copies while the host goes on.
TEST_F(GpuTest, WhatIsCopiedToTheHostIsThereWhenTheCallReturns) {
  constexpr int64_t kElements = 1000;
  CudaBackend backend(*gpu);
  const Buffer a(4 * kElements, gpu->memory()), b(8 * kElements, gpu->memory()), pinned(8 * kElements, gpu->pinned());
  const Tensor x = a.tensor(Dtype::kF32, {kElements}), y = b.tensor(Dtype::kF64, {kElements});
  std::vector<float> values(kElements);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 3;
  const std::vector<double> arrived = same_under_every_schedule([&] {
    std::memset(pinned.data(), 0, static_cast<size_t>(pinned.bytes()));
    backend.zero(Out(y));
    backend.copy_from_host(values.data(), Out(x));
    backend.convert(Accumulate(y), x);
    backend.copy_to_host(y, pinned.data());
    const auto* data = static_cast<const double*>(pinned.data());
    return std::vector<double>(data, data + kElements);
  });
  EXPECT_EQ(arrived, std::vector<double>(values.begin(), values.end()));
}

TEST_F(GpuTest, TensorsOfTheHostAreRefused) {
  CudaBackend backend(*gpu);
  const Buffer host(64), device(64, gpu->memory());
  const Tensor x = host.tensor(Dtype::kF32, {4}), y = device.tensor(Dtype::kF32, {4});
  EXPECT_THROW(backend.zero(Out(x)), InternalError);
  EXPECT_THROW(backend.convert(Out(y), x), InternalError);
  EXPECT_THROW(backend.add(Out(y), y, x, {}), InternalError);
  EXPECT_THROW(backend.sum_rows(Out(y), x.reshape({1, 4})), InternalError);
}

TEST_F(GpuTest, AWorkspaceGrowsAndStays) {
  Workspace workspace(gpu->memory());
  EXPECT_EQ(workspace.at_least(0), nullptr);
  void* const first = workspace.at_least(1000);
  EXPECT_NE(first, nullptr);
  EXPECT_EQ(workspace.at_least(10), first);
  EXPECT_EQ(workspace.at_least(1000), first);
  char* const larger = static_cast<char*>(workspace.at_least(5000));
  EXPECT_NO_THROW(require(cudaMemset(larger, 1, 5000), "cudaMemset"));
}

}  // namespace
}  // namespace switchyard::cuda
