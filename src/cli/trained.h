// Trained: a model loaded from a run's checkpoint, for commands that use it without training. It is the run's best one
// where checkpoint.keep_best is set, else its newest whole one.
#pragma once

#include <memory>
#include <string>

#include "src/cli/run_data.h"
#include "src/cli/workplace.h"
#include "src/train/runtime.h"

namespace switchyard {

struct Trained {
  Config config;  // of the run, with the overrides
  RunData data;
  std::unique_ptr<Workplace> workplace;
  std::unique_ptr<Runtime> runtime;
  std::string checkpoint;  // its directory
  int64_t step = 0;
};

// What becomes of a token that finds its expert full.
enum class Drops : uint8_t {
  kAsEvaluated,
  kNone,  // tokens that choose experts all find one, so what becomes of one does not depend on the others
};

// Collective. Throws AgreedError: kInputOutput where `run` is no directory, kData where it holds no whole checkpoint,
// kUsage where an override breaks a rule.
Trained load_trained(const MpiSession& session, const std::string& run, const std::vector<std::string>& overrides, Drops drops, spdlog::logger& log);

}  // namespace switchyard
