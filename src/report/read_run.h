// What metrics.jsonl says about a run, read back. Nothing in the file is trusted: a run may still be written, be cut off, be
// older than this program, or be no run at all.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "src/report/metrics.h"

namespace switchyard {

struct RunRecord {
  std::string path, name;          // the name is the folder's
  std::vector<StepMetrics> steps;  // in rising order; numbers that a line does not have are NaN, integers 0
  std::vector<HeldoutMetrics> heldout;
  std::vector<Alarm> alarms;
  std::vector<std::string> notes;  // sentences about what is missing or was left out
  bool running = false;            // a training holds the run's lock
  bool estimated_seconds = false;  // from the steps that were logged

  // Filled by the caller, who knows configurations.
  int64_t planned_steps = 0;
  double flops_per_token = 0;
  std::vector<std::pair<std::string, std::string>> config;  // (field, value); empty where unknown
};

// Throws Error(kInputOutput) where `path` is no directory or cannot be read, Error(kData) where it holds neither metrics
// nor a configuration, or a line of more than 16 MiB.
RunRecord read_run(const std::string& path);

// Gives lines of older programs the flops that they lack. `flops_per_token`: of training.
void complete_flops(RunRecord& run, double flops_per_token);

}  // namespace switchyard
