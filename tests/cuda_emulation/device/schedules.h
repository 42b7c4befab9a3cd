// For tests of the CUDA path: the same bits whatever the order in which an emulated device does its work. The file of the
// same name in gpu/device does what can be done on a real one, so that tests need no #if.
#pragma once

#include <gtest/gtest.h>

#include <array>

#include "tests/cuda_emulation/controls.h"

namespace switchyard::cuda {

struct Mode {
  const char* name;
  emulation::Schedule schedule;
  emulation::Progress progress;
  uint64_t seed;  // of the streams
  bool isolated;
};

inline constexpr std::array kModes = {
    Mode{"reverse order", {emulation::Order::kReverse}, emulation::Progress::kImmediate, 0, false},
    Mode{"each warp ahead of later ones", {emulation::Order::kWarpAhead}, emulation::Progress::kImmediate, 0, false},
    Mode{"each warp ahead of earlier ones", {emulation::Order::kWarpAheadReverse}, emulation::Progress::kImmediate, 0, false},
    Mode{"random order 2", {emulation::Order::kRandom, 2}, emulation::Progress::kImmediate, 0, true},
    Mode{"random order 3, streams as late as can be", {emulation::Order::kRandom, 3}, emulation::Progress::kDeferred, 0, false},
    Mode{"streams at random 4", {}, emulation::Progress::kDeferred, 4, false},
    Mode{"reverse order, streams at random 5", {emulation::Order::kReverse}, emulation::Progress::kDeferred, 5, false},
};

// Calls program() in every mode, expects each result to equal the first, and returns that. With several ranks, `salt` is
// the rank, so that their streams go different ways.
template <class Program>
auto same_under_every_schedule(Program program, uint64_t salt = 0) {
  const auto expected = program();
  for (const Mode& mode : kModes) {
    emulation::set_schedule(mode.schedule);
    emulation::set_progress(mode.progress, mode.seed == 0 ? 0 : mode.seed + 100 * salt);
    emulation::set_isolation(mode.isolated);
    EXPECT_TRUE(program() == expected) << "the bits differ under " << mode.name;
    emulation::set_isolation(false);
    emulation::set_progress(emulation::Progress::kImmediate);
    emulation::set_schedule({});
  }
  return expected;
}

}  // namespace switchyard::cuda
