// What the tests of configurations share.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/config/config.pb.h"

namespace switchyard {

// A small configuration that keeps every rule.
Config valid_config();
// The same with some overrides, "a.b=value".
Config valid_config_with(const std::vector<std::string>& overrides);

// The sentence of the Error that `call` throws; fails the test if it throws none or one with another code.
template <class Call>
std::string error_of(ExitCode code, Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

}  // namespace switchyard
