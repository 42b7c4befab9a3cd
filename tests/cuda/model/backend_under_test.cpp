#include "tests/backend_under_test.h"

#include <gtest/gtest.h>

#include "tests/cuda/device.h"
#include "tests/cuda/mirror.h"

namespace switchyard::test {
namespace {

class NeedsADevice : public testing::Environment {
  void SetUp() override {
    if (!cuda::device_is_usable()) GTEST_SKIP() << "there is no GPU that this process can use";
  }
};
[[maybe_unused]] const testing::Environment* const kEnvironment = testing::AddGlobalTestEnvironment(new NeedsADevice);

}  // namespace

std::unique_ptr<Backend> backend_under_test(int /*threads*/) { return std::make_unique<Mirror>(cuda::make_device_backend()); }

}  // namespace switchyard::test
