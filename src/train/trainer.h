// Trainer: the step. Forward and backward of this rank's lanes, the ordered sums, the verdict of all ranks, the update.
#pragma once

#include <memory>
#include <vector>

#include "src/checkpoint/state.h"
#include "src/data/batch_source.h"
#include "src/optim/optimizer.h"
#include "src/optim/schedule.h"
#include "src/train/digests.h"
#include "src/train/gradient_sink.h"
#include "src/train/options.h"
#include "src/train/runtime.h"
#include "src/train/scalars.h"

namespace switchyard {

struct StepReport {
  int64_t step = 0;     // number of the step, 0 for the first
  bool applied = true;  // false: loss or norm was not finite and the update was skipped
  MicroBatchLoss loss;  // of the whole step
  double gradient_norm = 0, learning_rate = 0, clip = 1;
  Counts counts;
  std::vector<LayerReport> layers;
  std::vector<PayloadFallback> fallbacks;  // that this step decided
};

class Trainer {
 public:
  struct Options {
    TrainOptions train;
    OptimizerOptions optimizer;
    ScheduleOptions schedule;
    ModelOptions model;
    Precision precision;
  };
  // How far a run is: all of it that is not a tensor.
  struct Progress {
    int64_t step = 0;    // steps done, skipped ones included; also the data cursor
    int64_t skips = 0;   // steps whose update was skipped: Adam's t is step - skips
    int64_t tokens = 0;  // trained on
  };

  Trainer(const Parts& parts, const Options& options);

  // Initial weights, and their forms. Collective.
  void initialise(int threads);
  // After loading into state(): brings it to every rank. Collective.
  void resume(const Progress& progress);
  // One step. Collective; ends with the same report on every rank.
  StepReport step(BatchSource& batches);
  // Writes gradients, loss, weights and moments of every step. Null: stop. The writer must outlive its use.
  void watch(DigestWriter* digests) { digests_ = digests; }

  Runtime& runtime() { return runtime_; }
  const Progress& progress() const { return progress_; }
  State state();  // weights, moments, and what routers remember
  int64_t gradient_bytes() const { return sink_.reserved_bytes(); }

 private:
  MicroBatch read(BatchSource& batches, int accumulation, int lane);
  void micro_batch(const MicroBatch& source, const Counts& counts);
  double gradient_norm();
  void update(StepReport& report);
  void write_digests(const StepReport& report);

  Options options_;
  std::unique_ptr<Optimizer> optimizer_;
  Runtime runtime_;
  GradientSink sink_;
  ScalarBoard board_;
  BlockScalars squares_;
  Progress progress_;
  DigestWriter* digests_ = nullptr;
};

}  // namespace switchyard
