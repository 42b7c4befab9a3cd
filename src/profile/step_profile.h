// Where a step's time goes, from the timelines of all ranks.
//
// Every moment of a rank's step belongs to exactly one part: to the innermost collective or span that it lies in, or to
// "rest". So the parts add up to the step. Time in a collective is waiting as long as the last rank had not come to it,
// and moving bytes from then on.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/link_model.h"
#include "src/profile/sweep.h"
#include "src/profile/timeline.h"
#include "src/profile/traffic.h"

namespace switchyard {

// Seconds and bytes of one step, forward and backward together.
struct StepPart {
  std::string name;      // "dispatch", "experts", "combine", "gradient sum", "publish", "attention", ..., "rest"
  int layer = -1;        // of parts of a MoE layer: its number; else -1
  double compute = 0;    // mean over ranks, as all of these
  double wait = 0;       // in collectives to which another rank had not come yet
  double move = 0;       // in collectives since then
  double hidden = 0;     // computed while a transfer of this part was under way: at most so much of it is hidden
  double bytes = 0;      // from one rank to another, all ranks together
  double predicted = 0;  // seconds of its collectives by the link model that was given, hidden or not

  double total() const { return compute + wait + move; }
  // What is left of `predicted` when `hidden` of it is hidden.
  double predicted_exposed() const { return predicted > hidden ? predicted - hidden : 0; }
};

struct StepProfile {
  int ranks = 0;
  int64_t steps = 0;
  Times step;                   // seconds of a step on its slowest rank
  std::vector<StepPart> parts;  // MoE layers first, "rest" last
  // Bytes of all steps from every rank to every rank, own rows included.
  Traffic exchange, gradient_sum, publish, control;

  double total() const;  // of all parts
  const StepPart* find(const std::string& name, int layer = -1) const;
};

// `timelines`: all ranks in order, under one clock, with the same steps and calls. `hosts` [P], for `model`.
// Throws InternalError where ranks did not issue the same collectives.
StepProfile profile_steps(std::span<const Timeline> timelines, std::span<const int> hosts, const std::optional<LinkModel>& model);

// The name without what says that it is a backward pass.
std::string forward_name(const std::string& name);

}  // namespace switchyard
