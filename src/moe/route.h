// Route: what the router decides, as a value. It is kept with the saved state and never recomputed.
//
// Entries (token, expert, slot, weight) are sorted by (expert, slot). A token has at most k of them: one in top-1
// routing, one for each choice in top-k, one for each expert that chose it in expert choice. A dropped choice has none,
// and a token without entries has the MoE output zero. A row's slot is its number among the kept rows of its expert in
// the whole micro-batch, groups in order, then places in the group. With blocks of fixed size the list has as many entries
// for every expert, and those that hold no token are rows of zeros: nobody needs to know how many rows there are.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "kernels/backend.h"

namespace switchyard {

// What a router is told about one micro-batch besides x.
struct RoutingBatch {
  Tensor mask{};                // [T] I32, 0 where padding; or none: no padding anywhere
  Tensor tokens{};              // [T] I32 numbers of the tokens, for hash routing; or none
  int64_t sequence_length = 0;  // S; T is a multiple of it
  RouterLoss loss{};            // see router_loss()
};

struct Route {
  RouterShape shape;
  int64_t choices = 1;                // k: entries that a token has at most
  int64_t capacity = 0;               // slots of one expert in one token group
  int64_t block = 0;                  // rows of each expert's block where blocks are of fixed size, else 0
  int64_t entries = 0;                // rows of the list: kept choices, or all blocks
  Tensor expert;                      // [T, k] I32, negative where there is no such choice: -1 for padding
  Tensor gate;                        // [T, k] exact: what multiplies the row that comes back
  Tensor position;                    // [T, k] I32: the choice's entry, -1 where it has none
  Tensor token;                       // [T * k, or all blocks] I32: the entry's token, -1 where there is none
  Tensor source;                      // like token, I32: the entry's choice, token * k + choice, -1 where there is none
  Tensor requested;                   // [G, E] I32, before capacity
  Tensor kept;                        // [E] I32, after capacity
  std::vector<int32_t> listed;        // [E] entries of each expert: what it keeps, or a block; its memory is reused
};

// Decisions of routers by (layer, lane, accumulation): recorded in one run and replayed in another, so that perturbed
// or re-run forwards take the same experts. Gates are never replayed: they are computed from the current logits.
class RouteBook {
 public:
  enum class Mode : uint8_t { kRecord, kReplay };
  using Place = std::tuple<int, int64_t, int64_t>;  // MoE layer, lane, accumulation

  Mode mode = Mode::kRecord;
  std::map<Place, std::vector<int32_t>> experts;    // [T, k], as in Route
  std::map<Place, std::vector<int32_t>> positions;  // [T, k]; not of plain top-1 routing, where they follow from experts
};

}  // namespace switchyard
