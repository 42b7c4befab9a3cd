// Batches: what every lane works on in every step, as a pure function of (step, accumulation, lane).
//
// The split is cut into windows of S targets. Window i predicts tokens i*S .. i*S + S - 1, each from those before it; its
// inputs are tokens i*S - 1 .. i*S + S - 2, and an end-of-document token stands before token 0. So windows overlap by one
// token, every token is a target exactly once an epoch, and only the last window is padded (input end-of-document,
// target -1, mask 0).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/memory.h"
#include "src/data/batch_source.h"
#include "src/data/token_file.h"

namespace switchyard {

// The windows of one token file, and one micro-batch of memory to read them into.
class Windows {
 public:
  // The file must outlive this object. Throws Error(kData) if it holds no token, kUsage for extents below 1.
  Windows(const TokenFile& file, const BatchOptions& options);

  int64_t count() const { return count_; }
  // Targets of a window: S, fewer in the last one, 0 from count() on.
  int64_t targets(int64_t window) const;
  // What a micro-batch of windows chosen[0 .. B) counts. Windows from count() on are padding.
  Counts counts(const std::vector<int64_t>& chosen) const;
  // Reads them. mask is none where nothing is padding. The tensors live until the next call.
  MicroBatch read(const std::vector<int64_t>& chosen);
  // No sequences, no rows.
  MicroBatch empty() const;
  const BatchOptions& options() const { return options_; }

 private:
  void read_window(int64_t window, int64_t sequence);

  const TokenFile& file_;
  BatchOptions options_;
  int64_t count_ = 0;
  Buffer tokens_, targets_, mask_;  // [T] I32
};

// Training: windows in the order of window_order(), epoch after epoch. The window number of sequence b is
// ((step * A + accumulation) * W + lane) * B + b; its epoch is that number / windows. The step is the whole cursor.
class Batches : public BatchSource {
 public:
  Batches(const TokenFile& file, const BatchOptions& options);

  int64_t windows() const { return windows_.count(); }  // of an epoch
  Counts counts(int64_t step) override;
  MicroBatch at(int64_t step, int accumulation, int lane) override;

 private:
  Windows windows_;
  std::vector<int64_t> chosen_;  // [B] windows of the micro-batch at hand
};

// Evaluation: every window once, in order.
class EvaluationBatches : public EvaluationSource {
 public:
  // most_windows: only the first so many; 0: all. options.accumulate and seed mean nothing here.
  EvaluationBatches(const TokenFile& file, const BatchOptions& options, int64_t most_windows = 0);

  int64_t rounds() const override;
  int64_t targets() const override;  // info().tokens where all windows are taken
  Counts counts(int64_t round) override;
  MicroBatch at(int64_t round, int lane) override;

 private:
  bool choose(int64_t round, int lane);  // false: nothing left

  Windows windows_;
  int64_t taken_ = 0;  // windows
  std::vector<int64_t> chosen_;
};

}  // namespace switchyard
