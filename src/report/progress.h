// The progress line: rewritten in place on a terminal, plain lines elsewhere.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "src/report/metrics.h"

namespace switchyard {

// "step 120/2000  loss 4.1234  18,302 tokens/s  dropped 1.3 %  ETA 3 min 20 s"
std::string progress_text(const StepMetrics& metrics, int64_t steps, double seconds_left);

class Progress {
 public:
  // `stream` stays the caller's. `terminal`: isatty of it.
  Progress(std::FILE* stream, bool terminal, int64_t steps) : stream_(stream), terminal_(terminal), steps_(steps) {}

  // `elapsed_seconds` since the run's first step, which did `steps_done` steps: they give the time left.
  void show(const StepMetrics& metrics, int64_t steps_done, double elapsed_seconds);
  // Ends the line that is being rewritten, so that other text can follow.
  void finish();

 private:
  std::FILE* stream_;
  bool terminal_;
  int64_t steps_;
  size_t width_ = 0;  // of the text that stands on the terminal's line
};

}  // namespace switchyard
