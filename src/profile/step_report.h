// What `profile step` prints, and its trace.json.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/profile/step_profile.h"

namespace switchyard {

struct StepHead {
  std::string program, config, transport;
  int threads = 1;
  std::vector<int> hosts;          // [P]
  int64_t warm_up = 0;             // steps before those that were watched
  double measured_seconds = 0;     // of one step, by a clock around all of them
  std::optional<double> overhead;  // of watching, as a share of a step
  std::string link;                // file of the what-if; empty: none
  std::vector<int> link_hosts;     // [P] hosts that it assumes
};

// What the step would take with the link file's collectives instead of this run's: the same computing and waiting.
double predicted_step_seconds(const StepProfile& profile);

std::string step_text(const StepHead& head, const StepProfile& profile);
// One object; its fields are described by tests/profile/step.schema.json.
std::string step_json(const StepHead& head, const StepProfile& profile);

// Bytes of one step from every rank to every rank as `--pattern matrix:FILE` reads them.
std::string matrix_text(const Traffic& traffic, int64_t steps);

// One rank's part of trace.json, for write_trace(): a process named after the rank, its steps, spans and stays in
// collectives as complete events that nest, transfers under way as asynchronous events, and a flow from the start of each
// dispatch to the wait for the combine that brings its rows back. Times count from `origin_ns`.
std::string step_trace(const Timeline& timeline, int64_t first_step, int64_t origin_ns);

}  // namespace switchyard
