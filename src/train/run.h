// Run: steps, and what happens between them: checkpoints, evaluation, metrics, and leaving in good order.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/run_directory.h"
#include "src/report/alarms.h"
#include "src/report/metrics.h"
#include "src/report/progress.h"
#include "src/report/tensorboard.h"
#include "src/train/evaluate.h"
#include "src/train/trainer.h"

namespace switchyard {

struct RunOptions {
  std::string directory;
  int64_t steps = 0;                // the run ends when so many are done
  std::vector<int64_t> epoch_ends;  // ascending: steps after which a pass over the examples is complete
  int64_t patience = 0;             // the run ends when so many evaluations in a row were no better than the best one; 0: never
  int64_t checkpoint_every = 0;     // steps; 0: only at the end
  int keep = 0;                     // checkpoints
  int64_t evaluate_every = 0;       // steps; 0: only at the ends of epochs
  bool keep_best = false;           // keep the weights of the best evaluation, too
  int64_t log_every = 1;            // steps
  int64_t heldout_bytes = 0;        // of the text before tokenizing, for bits per byte
  bool whole_heldout = true;        // the evaluation batches cover all of it
  bool trace = false;               // write trace.json at the end
  AlarmOptions alarms;
  double flops_per_token = 0;  // of training, for metrics.jsonl
  int64_t places = 0;          // of a step: tokens that its micro-batches have room for
  StateInfo info;              // seed, config, precision, code, ranks: what a checkpoint says beside progress
};

// Where a run keeps the weights of its best evaluation: a directory like a run's, with its newest checkpoint the best.
std::string best_directory(const std::string& run);

// What a run tells its user; called on rank 0 only.
using Say = std::function<void(const std::string& sentence)>;

class Run {
 public:
  // `directory` is null on all ranks but 0. `heldout` may be null: then nothing is evaluated. `stop` is set by a signal
  // handler.
  Run(Trainer& trainer, BatchSource& batches, EvaluationSource* heldout, RunDirectory* directory, RunOptions options, const std::atomic<bool>& stop, Say say);

  // Loads the newest whole checkpoint, or starts with initial weights. Collective.
  void start(bool resume, int threads);
  // Trains to the end. kOk, or kPreempted after a checkpoint where a rank was told to stop. Collective.
  ExitCode train();

 private:
  // Whether any rank was told to stop; throws AgreedError where one brings an error.
  bool agree_on_step(const std::optional<Error>& mine);
  StepMetrics metrics(const StepReport& report, double seconds) const;
  void give_alarms(const StepReport& report);
  void report_step(const StepReport& report, double seconds, double elapsed_seconds);
  // The hold-out is evaluated every so many steps, after each epoch and after the last step.
  bool evaluation_due() const;
  void evaluate_heldout();
  void report_heldout(const EvaluationReport& report);
  StateInfo info() const;
  void save();
  void save_best();
  bool out_of_patience() const { return options_.patience > 0 && best_.since >= options_.patience; }
  bool finished() const { return trainer_.progress().step >= options_.steps || out_of_patience(); }
  void write_trace_file();
  bool due(int64_t every) const { return every > 0 && trainer_.progress().step % every == 0; }
  bool first_rank() const { return trainer_.runtime().parts().grid.rank() == 0; }

  Trainer& trainer_;
  BatchSource& batches_;
  EvaluationSource* heldout_;
  RunDirectory* directory_;
  RunOptions options_;
  const std::atomic<bool>& stop_;
  Say say_;
  int64_t first_step_ = 0;
  int64_t saved_step_ = -1;
  BestEvaluation best_;
  std::unique_ptr<MetricsWriter> metrics_;
  std::unique_ptr<EventWriter> events_;
  std::unique_ptr<Progress> progress_;
  std::unique_ptr<Alarms> alarms_;
  double seconds_ = 0;  // of all steps since step 0, on rank 0
};

}  // namespace switchyard
