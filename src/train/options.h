// The shape of a step, as plain numbers.
#pragma once

#include <cstdint>

namespace switchyard {

struct TrainOptions {
  uint64_t seed = 1;
  int64_t steps = 0;
  int lanes = 1;                // W
  int accumulate = 1;           // A
  int expert_replicas = 1;      // R
  int64_t sequences = 1;        // B, sequences of a micro-batch
  int64_t sequence_length = 0;  // S
  int64_t epochs = 0;           // the run ends after so many passes over the data; 0: steps alone count
  int64_t patience = 0;         // evaluations without a better held-out loss that end the run; 0: never
};

}  // namespace switchyard
