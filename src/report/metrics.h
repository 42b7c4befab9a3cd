// metrics.jsonl: what a step was, one line of JSON for each logged step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/report/output.h"

namespace switchyard {

struct LayerMetrics {
  std::vector<double> load;  // [E] fraction of the routed tokens that chose each expert, before capacity
  double dropped = 0;        // fraction of the tokens that found no place
  double entropy = 0;        // mean over tokens of -sum p ln p, in nats
};

// Fields have the names that the file uses. A number that is not finite is written as null.
struct StepMetrics {
  int64_t step = 0;    // steps done, this one included
  double loss = 0;     // cross-entropy per target, in nats
  int64_t tokens = 0;  // trained on since step 0
  double tokens_per_second = 0;
  double step_seconds = 0;
  double gradient_norm = 0;
  double learning_rate = 0;
  double balance_loss = 0;  // sum over MoE layers, with its coefficient
  double z_loss = 0;        // likewise
  double dropped_fraction = 0;
  double all_to_all_seconds = 0;
  double gradient_sum_seconds = 0;
  std::vector<LayerMetrics> layers;  // MoE layers in model order
};

// Without the line end.
std::string to_json(const StepMetrics& metrics);

// Appends to <run>/metrics.jsonl. A line is there whole or not at all: one that cannot be written is taken back and
// Error(kInputOutput) is thrown. Lines are not forced to the disk; a checkpoint cuts the file back to what it knows.
class MetricsWriter {
 public:
  explicit MetricsWriter(const std::string& run);
  void write(const StepMetrics& metrics);

 private:
  AppendedFile file_;
};

}  // namespace switchyard
