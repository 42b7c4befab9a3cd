// Every operation has the same bits in whatever order the device's threads, blocks and streams take their turns.
#include <device/schedules.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "tests/cuda/device.h"
#include "tests/cuda/mirror.h"
#include "tests/kernels/every_operation.h"

namespace switchyard::cuda {
namespace {

// Rows and columns beyond a warp and, where a block's threads share a row's columns, beyond a block.
const Extents kOdd{66, 45, 33, 3, 301, 17, 10001, {72, 130}};

// All bytes of all results, with their names in front.
std::vector<std::string> bytes_of(const EveryOperation& operations) {
  std::vector<std::string> all;
  for (const auto& [name, tensor] : operations.results) {
    all.push_back(name + ": " + std::string(static_cast<const char*>(tensor.data()), static_cast<size_t>(tensor.bytes())));
  }
  return all;
}

struct Case {
  OperationPart part;
  Dtype activation;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.part.name << " in " << name(c.activation); }

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const OperationPart& part : operation_parts()) {
    for (const Dtype activation : {Dtype::kF32, Dtype::kBF16}) all.push_back({part, activation});
  }
  return all;
}

class Schedules : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!device_is_usable()) GTEST_SKIP() << "this machine has no GPU";
  }
};
INSTANTIATE_TEST_SUITE_P(Cuda, Schedules, testing::ValuesIn(cases()),
                         [](const auto& c) { return std::string(c.param.part.name) + "_" + name(c.param.activation); });

TEST_P(Schedules, DoNotChangeBits) {
  Mirror mirror(make_device_backend());
  same_under_every_schedule([&] {
    EveryOperation operations(mirror, GetParam().activation, kOdd);
    (operations.*GetParam().part.run)();
    return bytes_of(operations);
  });
}

}  // namespace
}  // namespace switchyard::cuda
