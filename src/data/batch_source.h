// Where training and evaluation take what every lane works on: windows of a text (batches.h) or labelled texts
// (labelled_batches.h).
#pragma once

#include <cstdint>
#include <vector>

#include "src/data/batch.h"

namespace switchyard {

enum class TextSide : uint8_t { kBack, kFront };

struct BatchOptions {
  int lanes = 1;                // W
  int accumulate = 1;           // A
  int64_t sequences = 1;        // B, of a micro-batch
  int64_t sequence_length = 0;  // S
  int64_t group_tokens = 0;     // of a token group, for Counts::groups; 0: the whole micro-batch
  uint64_t seed = 1;
  // Of labelled texts:
  TextSide pad = TextSide::kBack;  // where a shorter text is padded to S
  TextSide cut = TextSide::kBack;  // where a longer one is cut to S
  bool see_padding = false;        // padding counts as tokens: Counts::tokens and groups take in every row
  // Every sequence has S rows. Else a micro-batch has as many as its longest text needs (LabelledBatches), which takes
  // pad kBack, no see_padding and group_tokens 0.
  bool whole_length = true;
};

// `options`, if they can be worked with. Throws Error(kUsage) for extents below 1 and more rows than 32 bits count.
BatchOptions checked_options(const BatchOptions& options);

// The order of training, of windows and of examples alike: fills chosen [B] with the items of a micro-batch. The number of
// sequence b is ((step * A + accumulation) * W + lane) * B + b, its epoch that number / items, its item what
// window_order() has at that place of the epoch.
void choose_items(int64_t step, int accumulation, int lane, const BatchOptions& options, int64_t items, std::vector<int64_t>& chosen);
// `batch` with its lane, accumulation and first_token.
MicroBatch numbered(MicroBatch batch, int accumulation, int lane, const BatchOptions& options);

// Training: a pure function of (step, accumulation, lane). The step is the whole cursor.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // Over all lanes and accumulations of the step. No communication: every rank computes the same.
  virtual Counts counts(int64_t step) = 0;
  // Valid until the next call. Empty (sequences 0) from lane W on. Allocates nothing.
  virtual MicroBatch at(int64_t step, int accumulation, int lane) = 0;
};

// Evaluation: everything once, in order, in rounds of W micro-batches. A micro-batch with nothing left is empty.
class EvaluationSource {
 public:
  virtual ~EvaluationSource() = default;
  virtual int64_t rounds() const = 0;
  virtual int64_t targets() const = 0;  // of all rounds
  virtual Counts counts(int64_t round) = 0;
  // Valid until the next call. accumulation is 0, first_token is that of the round's lane.
  virtual MicroBatch at(int64_t round, int lane) = 0;
};

}  // namespace switchyard
