// RouterState: what the router of one MoE layer remembers of earlier steps. The same on every rank, and part of a
// checkpoint. It changes once in an applied step, from integer counts of all lanes, and nowhere else: not in a skipped
// step, not in evaluation.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/moe/options.h"

namespace switchyard {

struct RouterState {
  std::string name;  // global, "<prefix>.router"
  // [E], added to the probabilities where experts are chosen, never to a gate (Wang et al. 2024). Empty: none.
  std::vector<float> bias;
  // [E] choices of each expert, before capacity, in the last applied step: for the balance loss over whole steps. Zeros
  // before the first. Empty: not kept.
  std::vector<int64_t> counts;
  double bias_rate = 0;  // u

  // After an applied step in which `requested` [E] choices fell on each expert, over all lanes and accumulations:
  //   bias[i] += u * sign(mean of requested - requested[i]),  counts = requested
  void advance(const std::vector<int64_t>& requested);
  // f [E]: counts over their sum, 1 / E where they are all zero. Empty where counts are.
  std::vector<double> fractions() const;
};

RouterState make_router_state(const std::string& name, const MoeOptions& options);

using RouterStateVisitor = std::function<void(RouterState&)>;

}  // namespace switchyard
