// RouterState: what the router of one MoE layer, and its exchange, remember of earlier steps. The same on every rank, and
// part of a checkpoint. It changes once in an applied step, from integer counts of all lanes, and nowhere else: not in a
// skipped step, not in evaluation.
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
  PayloadOptions payload;
  // [kWays] 1 where rows travel uncompressed since they lost too much. Empty where none were to be compressed.
  std::vector<int32_t> fallen_back;

  // After an applied step in which `requested` [E] choices fell on each expert, over all lanes and accumulations:
  //   bias[i] += u * sign(mean of requested - requested[i]),  counts = requested
  void advance(const std::vector<int64_t>& requested);
  // After an applied step in which the rows lost so much on each way, `relative` [kWays], over all lanes. Answers with the
  // ways that are plain from now on and were not before: relative > payload.error_bound, where that is not 0.
  std::vector<Way> fall_back(const std::vector<double>& relative);
  // The form in which rows travel in the next step.
  Payloads payloads() const;
  // f [E]: counts over their sum, 1 / E where they are all zero. Empty where counts are.
  std::vector<double> fractions() const;
};

RouterState make_router_state(const std::string& name, const MoeOptions& options);

using RouterStateVisitor = std::function<void(RouterState&)>;

}  // namespace switchyard
