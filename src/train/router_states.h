// RouterStates: what the routers of a model remember, as part of a run's state. Every rank holds all of it; in a
// checkpoint it belongs to rank 0.
//
//   "<prefix>.router.bias"    F32 [E]
//   "<prefix>.router.counts"  I32 [E, 2]: 64-bit integers, low word first
//   "<prefix>.router.payload_fallback"  I32 [4]: 1 for each way of rows that is no longer compressed
#pragma once

#include <functional>
#include <vector>

#include "comm/communicator.h"
#include "src/checkpoint/state.h"
#include "src/moe/router_state.h"
#include "src/train/scalars.h"

namespace switchyard {

// A way of a MoE layer whose rows lost too much in a step: they travel uncompressed from the next one on.
struct PayloadFallback {
  int layer = 0;
  Way way = Way::kDispatch;
  double error = 0, bound = 0;
};

class RouterStates {
 public:
  using Visit = std::function<void(const RouterStateVisitor&)>;

  // Walks the model's routers in the order of its MoE layers. They outlive this object and stay where they are.
  explicit RouterStates(const Visit& visit);

  // After an applied step: what it counted in each MoE layer, the same on every rank. Answers with what falls back now.
  std::vector<PayloadFallback> advance(const std::vector<LayerReport>& layers);
  // What rank 0 has, to all ranks: after loading. Collective where there is something to remember.
  void share(Communicator& communicator);
  // Tensors that are these states' memory.
  State state(int rank) const;

 private:
  std::vector<RouterState*> routers_;
};

}  // namespace switchyard
