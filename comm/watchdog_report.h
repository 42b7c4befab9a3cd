// What a watchdog says about a hang: where each rank is, in one sentence.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <span>
#include <string>

namespace switchyard {

// Where a rank is, as its watchdog tells it to another one. Travels as bytes. The texts end with a zero.
struct RankState {
  uint64_t number = 0;  // of the collective that it is in or has left last; 0: none yet
  double seconds = 0;   // that it has been there
  int32_t layer = -1;
  int32_t waiting = 0;  // 1: inside the collective, 0: outside
  char operation[16] = {};
  char name[48] = {};
};

// One sentence without line ends: first the ranks that do not answer, then those outside of collectives, then those that
// wait, the earliest collective first. Ranks at the same place are told of together. `now` gives the time of day.
std::string hang_report(std::span<const std::optional<RankState>> ranks, std::time_t now);

}  // namespace switchyard
