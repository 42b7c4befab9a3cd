// A kernel of several phases, on which the emulation shows that right kernels pass: the slot of each token at its expert is
// the number of earlier tokens with the same expert.
#pragma once

#include <cuda_runtime_api.h>

namespace switchyard::cuda {

struct SlotPlan {
  int* slot;          // [tokens]; -1 from `capacity` on
  int* expert_count;  // [experts], before the cut
  int* tile_offset;   // [tiles(tokens), experts], scratch
};

int tiles(int tokens);

// expert is [tokens], each in [0, experts).
cudaError_t plan_slots(const int* expert, int tokens, int experts, int capacity, SlotPlan plan, cudaStream_t stream);

}  // namespace switchyard::cuda
