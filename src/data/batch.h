// What one lane works on in one accumulation, and the counts of a whole step.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace switchyard {

// T = sequences * sequence_length rows. An empty lane has sequences 0: it makes the same calls with no rows.
struct MicroBatch {
  Tensor tokens;   // [T] I32
  Tensor targets;  // [T] I32, the next tokens, or [sequences] I32, the classes of texts; -1 where no target counts
  Tensor mask;     // [T] I32, 0 where padding; or none: no padding anywhere
  int64_t sequences = 0;
  int64_t sequence_length = 0;
  int64_t lane = 0, accumulation = 0;
  uint64_t first_token = 0;  // global number in the step of row 0: (accumulation * lanes + lane) * T

  int64_t rows() const { return sequences * sequence_length; }
};

// Integers over the whole step, all lanes and accumulations, known before the first micro-batch.
struct Counts {
  int64_t targets = 0;  // N_target: targets that count
  int64_t tokens = 0;   // N_tokens: tokens that are not padding
  int64_t groups = 0;   // G: token groups with a token
};

}  // namespace switchyard
