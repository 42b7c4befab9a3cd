// Route: what the router decides, as a value. It is kept with the saved state and never recomputed.
//
// Entries (token, expert, slot, weight) are sorted by (expert, slot). Top-1 is at most one entry a token; a dropped
// token has none, and its MoE output is zero. A row's slot is its number among the kept rows of its expert in the whole
// micro-batch, groups in order, then places in the group.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "kernels/backend.h"

namespace switchyard {

struct Route {
  RouterShape shape;
  int64_t capacity = 0;               // slots of one expert in one token group
  int64_t entries = 0;                // kept tokens
  Tensor expert;                      // [T] I32, -1 for padding
  Tensor gate;                        // [T] exact: probability of the chosen expert
  Tensor position;                    // [T] I32: the token's entry, -1 where it has none
  Tensor token;                       // [T] I32: the entry's token, -1 after the last
  Tensor requested;                   // [G, E] I32, before capacity
  Tensor kept;                        // [E] I32, after capacity
  std::vector<int32_t> kept_on_host;  // [E]; its memory is reused from step to step
};

// Decisions of routers by (layer, lane, accumulation): recorded in one run and replayed in another, so that perturbed
// or re-run forwards take the same experts. Gates are never replayed: they are computed from the current logits.
class RouteBook {
 public:
  enum class Mode : uint8_t { kRecord, kReplay };
  using Place = std::tuple<int, int64_t, int64_t>;  // MoE layer, lane, accumulation

  Mode mode = Mode::kRecord;
  std::map<Place, std::vector<int32_t>> experts;  // [T], -1 for padding
};

}  // namespace switchyard
