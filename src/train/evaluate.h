// Evaluation: the negative log-likelihood of every target of a split, once each.
#pragma once

#include <cstdint>
#include <vector>

#include "src/data/batches.h"
#include "src/train/runtime.h"
#include "src/train/scalars.h"

namespace switchyard {

struct EvaluationReport {
  double nats = 0;          // sum over targets of -ln p
  int64_t targets = 0;
  int64_t correct = 0;      // targets that had the largest logit
  std::vector<LayerReport> layers;

  double loss() const { return targets == 0 ? 0 : nats / static_cast<double>(targets); }
  double perplexity() const;
  double accuracy() const { return targets == 0 ? 0 : static_cast<double>(correct) / static_cast<double>(targets); }
  // All targets were taken, and the text they stand for had `bytes` bytes (DESIGN 8).
  double bits_per_byte(int64_t bytes) const;
};

// At evaluation capacity, without dropout and jitter. Collective; the same bits on every number of ranks.
EvaluationReport evaluate(Runtime& runtime, EvaluationBatches& batches);

}  // namespace switchyard
