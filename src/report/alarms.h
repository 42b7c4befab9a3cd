// Alarms: what a run should be told about its routing and its updates, each once. Pure logic, fed with a step's counts.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/report/metrics.h"

namespace switchyard {

// Thresholds; 0: never.
struct AlarmOptions {
  int64_t unused_steps = 0;  // an expert that no token chose for so many steps
  double load = 0;           // an expert's load, as a multiple of the mean of its layer
  double dropped = 0;        // fraction of the tokens that found no place
  double entropy = 0;        // the router's entropy, as a fraction of ln E
};

// What the router of one MoE layer did in one step.
struct RouterCounts {
  std::vector<int64_t> requested;  // [E] choices that asked the expert, before capacity
  int64_t tokens = 0;              // that are not padding
  int64_t asked = 0;               // what dropped is a part of
  int64_t dropped = 0;
  double entropy = 0;  // mean over tokens, nats
};

class Alarms {
 public:
  // `given`: those that earlier parts of the run have written; they are not given again.
  Alarms(const AlarmOptions& options, std::span<const Alarm> given);

  // After every step, the skipped ones too: the alarms that are new. `step`: steps done. Load, drops and entropy are
  // judged over windows of unused_steps steps (of 100 where that is 0), one after the other; a resumed run begins a new
  // window, and a new count of steps for every expert.
  std::vector<Alarm> observe(int64_t step, bool applied, std::span<const RouterCounts> layers);

 private:
  struct Layer {
    std::vector<int64_t> unused;     // [E] steps in a row without a token
    std::vector<int64_t> requested;  // [E], tokens, asked, dropped: of the window so far
    int64_t tokens = 0, asked = 0, dropped = 0;
    double entropy = 0;  // sum over the window's tokens

    void add(const RouterCounts& counts);
    void begin_window();
  };

  void give(Alarm alarm, std::vector<Alarm>& fresh);
  void judge_unused(int64_t step, int number, const Layer& layer, std::vector<Alarm>& fresh);
  void judge_window(int64_t step, int number, const Layer& layer, std::vector<Alarm>& fresh);

  AlarmOptions options_;
  int64_t window_;
  int64_t steps_ = 0;  // of the window so far
  std::vector<Layer> layers_;
  std::set<std::pair<std::string, int>> given_;  // (kind, layer)
};

}  // namespace switchyard
