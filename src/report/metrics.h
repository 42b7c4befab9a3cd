// metrics.jsonl: what a run was, one line of JSON for each logged step, evaluation and alarm. README.md lists the names.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "src/report/output.h"

namespace switchyard {

struct LayerMetrics {
  std::vector<double> load;  // [E] fraction of the routed tokens that chose each expert, before capacity
  double dropped = 0;        // fraction of the tokens that found no place
  double entropy = 0;        // mean over tokens of -sum p ln p, in nats
  double confidence = 0;     // mean over tokens of the probability of the expert that was chosen
  // By way of its rows, such as "dispatch": what they lost where they travel compressed, relative root mean square; NaN
  // where they do not. Empty where none do: then the file does not have it.
  std::vector<std::pair<std::string, double>> payload_error{};
};

// A logged step. Fields have the names that the file uses. A number that is not finite is written as null.
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

  double seconds = 0;          // that all steps so far took, without evaluations and checkpoints between them
  double flops = 0;            // of all tokens so far, by the formulas of `switchyard summary`
  int64_t padding_tokens = 0;  // of this step: places of its micro-batches that hold no token
  int64_t skips = 0;           // steps so far whose update was skipped
  // Where the step's seconds went on rank 0, with all_to_all_seconds and gradient_sum_seconds; compute is the rest.
  double compute_seconds = 0, publish_seconds = 0, control_seconds = 0, input_seconds = 0;
};

// An evaluation on the held-out text between two steps.
struct HeldoutMetrics {
  int64_t step = 0;  // steps done before it
  int64_t tokens = 0;
  double seconds = 0, flops = 0;  // as in StepMetrics
  double loss = 0;                // nats per target
  double accuracy = 0;            // fraction of the targets that were the model's first choice
  double bits_per_byte = 0;       // NaN where part of the hold-out was read, or it is no text
};

// What alarms.h has found.
struct Alarm {
  std::string kind{};          // "unused_expert", "load", "dropped", "entropy", "skipped_update"
  int64_t step = 0;            // steps done
  int layer = -1;              // number of the MoE layer; -1: of the whole run
  std::vector<int> experts{};  // whom it is about
  double value = 0;            // what was found, in the unit of the threshold
  std::string sentence{};      // what was found, and what to do
};

// Without the line end.
std::string to_json(const StepMetrics& metrics);
std::string to_json(const HeldoutMetrics& metrics);
std::string to_json(const Alarm& alarm);

// Appends to <run>/metrics.jsonl. A line is there whole or not at all: one that cannot be written is taken back and
// Error(kInputOutput) is thrown. Lines are not forced to the disk; a checkpoint cuts the file back to what it knows.
class MetricsWriter {
 public:
  explicit MetricsWriter(const std::string& run);
  template <class Line>
  void write(const Line& line) {
    file_.append(to_json(line) + '\n');
  }

 private:
  AppendedFile file_;
};

}  // namespace switchyard
