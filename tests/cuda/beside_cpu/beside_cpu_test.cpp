// Copies, conversions, dropout, jitter, updates and payloads have the CPU's bits: equal gradients make equal weights, and a
// payload means the same to either.
#include <gtest/gtest.h>

#include <string>

#include "tests/cuda/device.h"
#include "tests/cuda/mirror.h"
#include "tests/kernels/every_operation.h"

namespace switchyard::cuda {
namespace {

class BesideCpu : public testing::TestWithParam<Dtype> {};
INSTANTIATE_TEST_SUITE_P(Cuda, BesideCpu, testing::Values(Dtype::kF32, Dtype::kBF16), [](const auto& c) { return name(c.param); });

TEST_P(BesideCpu, WhatNamesItsRoundingsHasTheSameBits) {
  if (!device_is_usable()) GTEST_SKIP() << "this machine has no GPU";
  Mirror mirror(make_device_backend());
  const auto cpu = make_cpu_backend(1);
  for (const OperationPart& part : operation_parts()) {
    const std::string of = part.name;
    if (of != "memory" && of != "elementwise" && of != "updates" && of != "payloads") continue;
    EveryOperation device(mirror, GetParam()), host(*cpu, GetParam());
    (device.*part.run)();
    (host.*part.run)();
    expect_same_results(device, host, "beside the CPU");
  }
}

}  // namespace
}  // namespace switchyard::cuda
