// What nvcc's seam hands to the runtime, for which this file stands in: the one branch of a launch that the emulation
// cannot run. Needs no driver.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "tests/cuda_emulation/self_test/on_nvcc/recorded.h"

namespace {

struct Record {
  cudaLaunchConfig_t config{};
  const float* in = nullptr;
  long long count = 0;
  float factor = 0;
  float* out = nullptr;
};

Record& record() {
  static Record the_record;
  return the_record;
}

}  // namespace

// Instead of the runtime's, with the types of the kernel's parameters. -fvisibility=hidden would keep it from the library.
extern "C" __attribute__((visibility("default"))) cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void*, void** arguments) {
  record().config = *config;
  record().in = *static_cast<const float**>(arguments[0]);
  record().count = *static_cast<long long*>(arguments[1]);
  record().factor = *static_cast<float*>(arguments[2]);
  record().out = *static_cast<float**>(arguments[3]);
  return cudaErrorNotReady;
}

namespace {

TEST(Seam, HandsShapeAndConvertedArgumentsToTheRuntime) {
  float in = 0;
  record().out = &in;
  const auto stream = reinterpret_cast<cudaStream_t>(0x1230);
  EXPECT_EQ(switchyard::cuda::launch_recorded(&in, -7, 2.5, stream), cudaErrorNotReady) << "the runtime's own answer";
  const cudaLaunchConfig_t& config = record().config;
  EXPECT_EQ(config.gridDim.x * 100 + config.gridDim.y * 10 + config.gridDim.z, 234u);
  EXPECT_EQ(config.blockDim.x * 100 + config.blockDim.y * 10 + config.blockDim.z, 3221u);
  EXPECT_EQ(config.dynamicSmemBytes, 512u);
  EXPECT_EQ(config.stream, stream);
  EXPECT_EQ(config.numAttrs, 0u);
  EXPECT_EQ(record().in, &in);
  EXPECT_EQ(record().count, -7);
  EXPECT_EQ(record().factor, 2.5f);
  EXPECT_EQ(record().out, nullptr);
}

}  // namespace
