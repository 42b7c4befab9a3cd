// device/schedules.h for a real device, whose order of work nobody chooses: the program runs twice.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>

namespace switchyard::cuda {

template <class Program>
auto same_under_every_schedule(Program program, uint64_t /*salt*/ = 0) {
  const auto expected = program();
  EXPECT_TRUE(program() == expected) << "the bits differ between two runs";
  return expected;
}

}  // namespace switchyard::cuda
