#include "src/data/batches.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/checked.h"
#include "src/base/error.h"

namespace switchyard {

Windows::Windows(const TokenFile& file, const BatchOptions& options) : file_(file), options_(checked_options(options)) {
  if (file.tokens() == 0) {
    throw Error(ExitCode::kData, fmt::format("{} holds no token; use a larger corpus, or hold out another part of it", file.path()));
  }
  count_ = divide_up(file.tokens(), options_.sequence_length);
  const Shape rows{options_.sequences * options_.sequence_length};
  tokens_ = make_buffer(Dtype::kI32, rows);
  targets_ = make_buffer(Dtype::kI32, rows);
  mask_ = make_buffer(Dtype::kI32, rows);
}

int64_t Windows::targets(int64_t window) const {
  return window >= count_ ? 0 : std::min(options_.sequence_length, file_.tokens() - window * options_.sequence_length);
}

Counts Windows::counts(const std::vector<int64_t>& chosen) const {
  const int64_t length = options_.sequence_length, rows = options_.sequences * length;
  const int64_t group = options_.group_tokens > 0 ? options_.group_tokens : rows;
  Counts counts;
  for (const int64_t window : chosen) counts.targets += targets(window);
  counts.tokens = counts.targets;
  if (counts.tokens == rows) {
    counts.groups = divide_up(rows, group);
    return counts;
  }
  int64_t last_group = -1;
  for (int64_t row = 0; row < rows; ++row) {
    const bool padding = row % length >= targets(chosen[static_cast<size_t>(row / length)]);
    if (padding || row / group == last_group) continue;
    last_group = row / group;
    ++counts.groups;
  }
  return counts;
}

void Windows::read_window(int64_t window, int64_t sequence) {
  const int64_t length = options_.sequence_length, valid = targets(window), first = window * length;
  int32_t* tokens = static_cast<int32_t*>(tokens_.data()) + sequence * length;
  int32_t* wanted = static_cast<int32_t*>(targets_.data()) + sequence * length;
  int32_t* mask = static_cast<int32_t*>(mask_.data()) + sequence * length;
  if (valid > 0) {
    file_.read(first, {wanted, static_cast<size_t>(valid)});
    tokens[0] = file_.info().end_of_document;
    if (first > 0) file_.read(first - 1, {tokens, 1});
    std::copy(wanted, wanted + valid - 1, tokens + 1);
  }
  std::fill(mask, mask + valid, 1);
  std::fill(mask + valid, mask + length, 0);
  std::fill(tokens + valid, tokens + length, file_.info().end_of_document);
  std::fill(wanted + valid, wanted + length, -1);
}

MicroBatch Windows::empty() const {
  MicroBatch batch;
  batch.sequence_length = options_.sequence_length;
  batch.tokens = tokens_.tensor(Dtype::kI32, {0});
  batch.targets = targets_.tensor(Dtype::kI32, {0});
  return batch;
}

MicroBatch Windows::read(const std::vector<int64_t>& chosen) {
  const int64_t rows = options_.sequences * options_.sequence_length;
  bool padded = false;
  for (int64_t b = 0; b < options_.sequences; ++b) {
    const int64_t window = chosen[static_cast<size_t>(b)];
    read_window(window, b);
    padded = padded || targets(window) < options_.sequence_length;
  }
  MicroBatch batch;
  batch.tokens = tokens_.tensor(Dtype::kI32, {rows});
  batch.targets = targets_.tensor(Dtype::kI32, {rows});
  if (padded) batch.mask = mask_.tensor(Dtype::kI32, {rows});
  batch.sequences = options_.sequences;
  batch.sequence_length = options_.sequence_length;
  return batch;
}

Batches::Batches(const TokenFile& file, const BatchOptions& options) : windows_(file, options), chosen_(static_cast<size_t>(options.sequences)) {}

Counts Batches::counts(int64_t step) {
  Counts sum;
  for (int accumulation = 0; accumulation < windows_.options().accumulate; ++accumulation) {
    for (int lane = 0; lane < windows_.options().lanes; ++lane) {
      choose_items(step, accumulation, lane, windows_.options(), windows(), chosen_);
      const Counts counts = windows_.counts(chosen_);
      sum.targets += counts.targets;
      sum.tokens += counts.tokens;
      sum.groups += counts.groups;
    }
  }
  return sum;
}

MicroBatch Batches::at(int64_t step, int accumulation, int lane) {
  const BatchOptions& options = windows_.options();
  const bool working = lane < options.lanes;
  if (working) choose_items(step, accumulation, lane, options, windows(), chosen_);
  return numbered(working ? windows_.read(chosen_) : windows_.empty(), accumulation, lane, options);
}

EvaluationBatches::EvaluationBatches(const TokenFile& file, const BatchOptions& options, int64_t most_windows)
    : windows_(file, options), chosen_(static_cast<size_t>(options.sequences)) {
  check(most_windows >= 0, "EvaluationBatches: a negative number of windows");
  taken_ = most_windows == 0 ? windows_.count() : std::min(most_windows, windows_.count());
}

int64_t EvaluationBatches::rounds() const { return divide_up(taken_, windows_.options().lanes * windows_.options().sequences); }

int64_t EvaluationBatches::targets() const { return (taken_ - 1) * windows_.options().sequence_length + windows_.targets(taken_ - 1); }

bool EvaluationBatches::choose(int64_t round, int lane) {
  const BatchOptions& options = windows_.options();
  check(round >= 0 && round < rounds() && lane >= 0, "EvaluationBatches: no such micro-batch");
  if (lane >= options.lanes) return false;
  const int64_t first = (round * options.lanes + lane) * options.sequences;
  for (int64_t b = 0; b < options.sequences; ++b) chosen_[static_cast<size_t>(b)] = first + b < taken_ ? first + b : windows_.count();
  return first < taken_;
}

Counts EvaluationBatches::counts(int64_t round) {
  Counts sum;
  for (int lane = 0; lane < windows_.options().lanes; ++lane) {
    if (!choose(round, lane)) continue;
    const Counts counts = windows_.counts(chosen_);
    sum.targets += counts.targets;
    sum.tokens += counts.tokens;
    sum.groups += counts.groups;
  }
  return sum;
}

MicroBatch EvaluationBatches::at(int64_t round, int lane) {
  return numbered(choose(round, lane) ? windows_.read(chosen_) : windows_.empty(), 0, lane, windows_.options());
}

}  // namespace switchyard
