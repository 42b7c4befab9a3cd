// Evaluation: the negative log-likelihood of every target of a split, once each.
#pragma once

#include <cstdint>
#include <vector>

#include "src/data/batch_source.h"
#include "src/train/runtime.h"
#include "src/train/scalars.h"

namespace switchyard {

// How well a classifier tells one class from the others.
struct ClassScore {
  int64_t examples = 0;  // of the class
  int64_t taken = 0;     // texts that were taken for it
  int64_t hits = 0;      // both

  double precision() const { return taken == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(taken); }
  double recall() const { return examples == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(examples); }
  // The harmonic mean of precision and recall, 0 where both are.
  double f1() const { return examples + taken == 0 ? 0 : 2 * static_cast<double>(hits) / static_cast<double>(examples + taken); }
};

// Beyond so many classes there is no table of which was taken for which.
inline constexpr int kMostConfusionClasses = 1000;

struct EvaluationReport {
  double nats = 0;  // sum over targets of -ln p
  int64_t targets = 0;
  int64_t correct = 0;  // targets that had the largest logit
  std::vector<LayerReport> layers;
  // Of a classifier: a score for each class; and [classes, classes] texts by class (row) and by what they were taken for
  // (column), empty where there are more than kMostConfusionClasses.
  std::vector<ClassScore> classes;
  std::vector<int64_t> confusion;

  double loss() const { return targets == 0 ? 0 : nats / static_cast<double>(targets); }
  double perplexity() const;
  double accuracy() const { return targets == 0 ? 0 : static_cast<double>(correct) / static_cast<double>(targets); }
  // All targets were taken, and the text they stand for had `bytes` bytes (DESIGN 8).
  double bits_per_byte(int64_t bytes) const;
  // The mean f1 of the classes, each counting alike. A class that has no example and that nothing was taken for is left out.
  double macro_f1() const;
};

// At evaluation capacity, without dropout and jitter. Collective; the same bits on every number of ranks.
EvaluationReport evaluate(Runtime& runtime, EvaluationSource& batches);

}  // namespace switchyard
