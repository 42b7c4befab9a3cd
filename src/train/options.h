// The shape of a step, as plain numbers.
#pragma once

#include <cstdint>

namespace switchyard {

struct TrainOptions {
  uint64_t seed = 1;
  int64_t steps = 0;
  int lanes = 1;           // W
  int accumulate = 1;      // A
  int64_t sequences = 1;   // B, sequences of a micro-batch
  int64_t sequence_length = 0;  // S
};

}  // namespace switchyard
