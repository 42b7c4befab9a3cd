// The number of threads of the CPU's backend is no part of a result.
#include <gtest/gtest.h>

#include <string>

#include "tests/kernels/every_operation.h"

namespace switchyard {
namespace {

class Threads : public testing::TestWithParam<Dtype> {};
INSTANTIATE_TEST_SUITE_P(Cpu, Threads, testing::Values(Dtype::kF32, Dtype::kBF16), [](const auto& c) { return name(c.param); });

TEST_P(Threads, DoNotChangeBits) {
  const auto one = make_cpu_backend(1);
  EveryOperation alone(*one, GetParam());
  alone.all();
  for (int threads : {2, 3, 8}) {
    const auto many = make_cpu_backend(threads);
    EveryOperation together(*many, GetParam());
    together.all();
    expect_same_results(together, alone, "with " + std::to_string(threads) + " threads");
  }
}

}  // namespace
}  // namespace switchyard
