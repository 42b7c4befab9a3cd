// Trained: a model loaded from a run's newest whole checkpoint, for commands that use it without training.
#pragma once

#include <memory>
#include <string>

#include "src/cli/workplace.h"
#include "src/train/runtime.h"

namespace switchyard {

struct Trained {
  Config config;  // of the run, with the overrides
  Dataset data;
  std::unique_ptr<Workplace> workplace;
  std::unique_ptr<Runtime> runtime;
  std::string checkpoint;  // its directory
  int64_t step = 0;
};

// Collective. Throws AgreedError: kInputOutput where `run` is no directory, kData where it holds no whole checkpoint,
// kUsage where an override breaks a rule.
Trained load_trained(const MpiSession& session, const std::string& run, const std::vector<std::string>& overrides, spdlog::logger& log);

}  // namespace switchyard
