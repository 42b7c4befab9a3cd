// What every transport promises, on one rank without MPI and on thread ranks, with and without the checker, and on emulated
// links. two_level_test.cpp runs the same list on hosts.
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "comm/self.h"
#include "tests/comm/emulated.h"
#include "tests/comm/transport_cases.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

enum class Under { kSelf, kThread, kChecked, kEmulated };

std::string label(Under under) {
  switch (under) {
    case Under::kSelf: return "self";
    case Under::kThread: return "thread";
    case Under::kChecked: return "checked";
    case Under::kEmulated: return "emulated";
  }
  return "?";
}

using Parameters = std::tuple<Under, int, size_t>;  // transport, ranks, case

std::string label_of(const testing::TestParamInfo<Parameters>& info) {
  const auto& [under, size, number] = info.param;
  return label(under) + std::to_string(size) + "_" + transport_cases()[number].name;
}

std::vector<size_t> case_numbers() {
  std::vector<size_t> numbers;
  for (size_t number = 0; number < transport_cases().size(); ++number) numbers.push_back(number);
  return numbers;
}

void run_emulated(const TransportCase& promise, Communicator& world) {
  constexpr LinkModel kModel{{1e-6, 1e9}, {1e-5, 1e8}};
  std::vector<int> hosts;
  for (int rank = 0; rank < world.size(); ++rank) hosts.push_back(rank / 2);
  promise.run(*emulate(world, kModel, hosts, std::make_shared<FakeClock>()));
}

class Transports : public testing::TestWithParam<Parameters> {};

TEST_P(Transports, Keeps) {
  const auto& [under, size, number] = GetParam();
  const TransportCase& promise = transport_cases()[number];
  if (under == Under::kSelf) {
    promise.run(*make_self_communicator(promise.sizes));
  } else if (under == Under::kEmulated) {
    run_ranks(size, [&](Communicator& world) { run_emulated(promise, world); }, {.sizes = promise.sizes});
  } else {
    run_ranks(size, promise.run, {.sizes = promise.sizes, .checked = under == Under::kChecked});
  }
}

INSTANTIATE_TEST_SUITE_P(Self, Transports, testing::Combine(testing::Values(Under::kSelf), testing::Values(1), testing::ValuesIn(case_numbers())), label_of);
INSTANTIATE_TEST_SUITE_P(Threads, Transports,
                         testing::Combine(testing::Values(Under::kThread, Under::kChecked, Under::kEmulated), testing::Values(1, 2, 3, 4, 8),
                                          testing::ValuesIn(case_numbers())),
                         label_of);

}  // namespace
}  // namespace switchyard
