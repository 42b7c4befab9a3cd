// What every transport promises, kept between devices under every order of work.
#include <device/schedules.h>
#include <gtest/gtest.h>

#include <string_view>
#include <tuple>
#include <vector>

#include "tests/comm/transport_cases.h"
#include "tests/cuda/comm/device_ranks.h"
#include "tests/cuda/comm/host_face.h"

namespace switchyard::cuda {
namespace {

using Parameters = std::tuple<Way, size_t>;

std::vector<size_t> case_numbers(bool with_growth) {
  std::vector<size_t> numbers;
  for (size_t number = 0; number < transport_cases().size(); ++number) {
    const TransportCase& promise = transport_cases()[number];
    if (std::string_view(promise.name) == "a_warm_step_allocates_nothing") continue;  // HostFace does; streams_cases.cpp has one of its own
    if (with_growth || promise.sizes.exchange_bytes > 0) numbers.push_back(number);
  }
  return numbers;
}

std::string label_of(const testing::TestParamInfo<Parameters>& info) {
  return std::string(name(std::get<0>(info.param))) + "_" + transport_cases()[std::get<1>(info.param)].name;
}

class DeviceTransports : public testing::TestWithParam<Parameters> {};

TEST_P(DeviceTransports, Keep) {
  const Way way = std::get<0>(GetParam());
  const TransportCase& promise = transport_cases()[std::get<1>(GetParam())];
  SWITCHYARD_NEEDS(way);
  on_every_rank([&] {
    Gpu gpu(device_of_rank());
    const auto program = [&] {
      HostFace comm(make(way, gpu, promise.sizes), gpu);
      promise.run(comm);
      return true;
    };
    same_under_every_schedule(program, static_cast<uint64_t>(session()->rank()));
  });
}

INSTANTIATE_TEST_SUITE_P(Grow, DeviceTransports, testing::Combine(testing::Values(Way::kNccl, Way::kStaged), testing::ValuesIn(case_numbers(true))), label_of);
INSTANTIATE_TEST_SUITE_P(Sized, DeviceTransports,
                         testing::Combine(testing::Values(Way::kCheckedNccl, Way::kStagedOverWindow), testing::ValuesIn(case_numbers(false))), label_of);

}  // namespace
}  // namespace switchyard::cuda
