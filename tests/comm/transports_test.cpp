// What every transport promises, on one rank without MPI and on thread ranks, with and without the checker.
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "comm/self.h"
#include "tests/comm/transport_cases.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

enum class Under { kSelf, kThread, kChecked };

std::string label(Under under) {
  switch (under) {
    case Under::kSelf: return "self";
    case Under::kThread: return "thread";
    case Under::kChecked: return "checked";
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

class Transports : public testing::TestWithParam<Parameters> {};

TEST_P(Transports, Keeps) {
  const auto& [under, size, number] = GetParam();
  const TransportCase& promise = transport_cases()[number];
  if (under == Under::kSelf) {
    promise.run(*make_self_communicator(promise.sizes));
  } else {
    run_ranks(size, promise.run, {.sizes = promise.sizes, .checked = under == Under::kChecked});
  }
}

INSTANTIATE_TEST_SUITE_P(Self, Transports, testing::Combine(testing::Values(Under::kSelf), testing::Values(1), testing::ValuesIn(case_numbers())), label_of);
INSTANTIATE_TEST_SUITE_P(Threads, Transports,
                         testing::Combine(testing::Values(Under::kThread, Under::kChecked), testing::Values(1, 2, 3, 4, 8), testing::ValuesIn(case_numbers())),
                         label_of);

}  // namespace
}  // namespace switchyard
