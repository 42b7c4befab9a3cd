#include "src/data/labelled_batches.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/checked.h"
#include "src/base/error.h"
#include "src/data/window_order.h"

namespace switchyard {

namespace {

constexpr int64_t kNoExample = -1;

void demand_examples(const ExampleFile& file) {
  if (file.examples() > 0) return;
  throw Error(ExitCode::kData, fmt::format("{} holds no example; use more labelled texts, or hold out another part of them", file.path()));
}

// Fills sequence b of the buffer with an example, or with padding.
void read_example(const ExampleFile& file, int64_t example, int64_t b, SequenceBuffer& buffer) {
  if (example == kNoExample) {
    buffer.prepare(b, 0, -1);
    return;
  }
  const int64_t length = file.length(example);
  file.read(example, buffer.place(length).first, buffer.prepare(b, length, file.label(example)));
}

}  // namespace

SequenceBuffer::SequenceBuffer(const BatchOptions& options, int32_t padding) : options_(checked_options(options)), padding_(padding) {
  const Shape rows{options_.sequences * options_.sequence_length};
  tokens_ = make_buffer(Dtype::kI32, rows);
  mask_ = make_buffer(Dtype::kI32, rows);
  targets_ = make_buffer(Dtype::kI32, {options_.sequences});
  shortest_ = options_.sequence_length;
  check(options_.whole_length || (options_.pad == TextSide::kBack && !options_.see_padding && options_.group_tokens == 0),
        "SequenceBuffer: sequences of any length where padding or its place has a meaning");
}

SequenceBuffer::Place SequenceBuffer::place(int64_t length) const {
  Place place;
  place.kept = std::min(length, options_.sequence_length);
  if (options_.cut == TextSide::kFront) place.first = length - place.kept;
  if (options_.pad == TextSide::kFront) place.offset = options_.sequence_length - place.kept;
  return place;
}

std::span<int32_t> SequenceBuffer::prepare(int64_t b, int64_t length, int32_t target) {
  const int64_t whole = options_.sequence_length;
  const Place where = place(length);
  int32_t* tokens = static_cast<int32_t*>(tokens_.data()) + b * whole;
  int32_t* mask = static_cast<int32_t*>(mask_.data()) + b * whole;
  if (where.kept < whole) {
    std::fill(tokens, tokens + whole, padding_);
    std::fill(mask, mask + whole, 0);
  }
  longest_ = std::max(longest_, where.kept);
  shortest_ = std::min(shortest_, where.kept);
  std::fill(mask + where.offset, mask + where.offset + where.kept, 1);
  static_cast<int32_t*>(targets_.data())[b] = target;
  return {tokens + where.offset, static_cast<size_t>(where.kept)};
}

int64_t SequenceBuffer::sequence_length(int64_t kept) const {
  if (options_.whole_length) return options_.sequence_length;
  return std::min(round_up(std::max<int64_t>(kept, 1), kLengthMultiple), options_.sequence_length);
}

MicroBatch SequenceBuffer::batch() {
  const int64_t length = sequence_length(longest_), rows = options_.sequences * length;
  for (const Buffer* buffer : {&tokens_, &mask_}) {  // sequences were prepared S apart
    auto* numbers = static_cast<int32_t*>(buffer->data());
    for (int64_t b = 1; b < options_.sequences && length < options_.sequence_length; ++b) {
      std::copy_n(numbers + b * options_.sequence_length, length, numbers + b * length);
    }
  }
  MicroBatch batch;
  batch.tokens = tokens_.tensor(Dtype::kI32, {rows});
  batch.targets = targets_.tensor(Dtype::kI32, {options_.sequences});
  if (shortest_ < length) batch.mask = mask_.tensor(Dtype::kI32, {rows});
  batch.sequences = options_.sequences;
  batch.sequence_length = length;
  longest_ = 0;
  shortest_ = options_.sequence_length;
  return batch;
}

MicroBatch SequenceBuffer::empty() const {
  MicroBatch batch;
  batch.sequence_length = options_.sequence_length;
  batch.tokens = tokens_.tensor(Dtype::kI32, {0});
  batch.targets = targets_.tensor(Dtype::kI32, {0});
  return batch;
}

void SequenceBuffer::count(std::span<const int64_t> lengths, Counts& counts) const {
  int64_t longest = 0;
  for (const int64_t length : lengths) longest = std::max(longest, place(std::max<int64_t>(length, 0)).kept);
  const int64_t whole = sequence_length(longest), rows = options_.sequences * whole;
  const int64_t group = options_.group_tokens > 0 ? options_.group_tokens : rows;
  int64_t next_group = 0;  // of the groups that are not counted yet
  for (size_t b = 0; b < lengths.size(); ++b) {
    counts.targets += lengths[b] != kNoExample;
    if (options_.see_padding) continue;
    const Place where = place(std::max<int64_t>(lengths[b], 0));
    if (where.kept == 0) continue;
    counts.tokens += where.kept;
    const int64_t begin = static_cast<int64_t>(b) * whole + where.offset;
    const int64_t first = std::max(begin / group, next_group), end = (begin + where.kept - 1) / group + 1;
    counts.groups += std::max<int64_t>(end - first, 0);
    next_group = std::max(end, next_group);
  }
  if (!options_.see_padding) return;
  counts.tokens += rows;
  counts.groups += divide_up(rows, group);
}

LabelledBatches::LabelledBatches(const ExampleFile& file, int32_t padding, const BatchOptions& options)
    : file_(file), buffer_(options, padding), chosen_(static_cast<size_t>(options.sequences)), lengths_(chosen_.size()) {
  demand_examples(file);
}

int64_t LabelledBatches::examples_per_step() const {
  const BatchOptions& options = buffer_.options();
  return checked_multiply(checked_multiply(options.lanes, options.accumulate), options.sequences);
}

int64_t LabelledBatches::steps(int64_t epochs) const {
  const int64_t per_step = examples_per_step(), all = checked_multiply(epochs, examples());
  return all / per_step + (all % per_step != 0);
}

void LabelledBatches::choose(int64_t step, int accumulation, int lane) {
  choose_items(step, accumulation, lane, buffer_.options(), examples(), chosen_);
  for (size_t b = 0; b < chosen_.size(); ++b) lengths_[b] = file_.length(chosen_[b]);
}

Counts LabelledBatches::counts(int64_t step) {
  Counts sum;
  for (int accumulation = 0; accumulation < buffer_.options().accumulate; ++accumulation) {
    for (int lane = 0; lane < buffer_.options().lanes; ++lane) {
      choose(step, accumulation, lane);
      buffer_.count(lengths_, sum);
    }
  }
  return sum;
}

MicroBatch LabelledBatches::at(int64_t step, int accumulation, int lane) {
  const BatchOptions& options = buffer_.options();
  if (lane >= options.lanes) return numbered(buffer_.empty(), accumulation, lane, options);
  choose(step, accumulation, lane);
  for (size_t b = 0; b < chosen_.size(); ++b) read_example(file_, chosen_[b], static_cast<int64_t>(b), buffer_);
  return numbered(buffer_.batch(), accumulation, lane, options);
}

LabelledEvaluationBatches::LabelledEvaluationBatches(const ExampleFile& file, int32_t padding, const BatchOptions& options, int64_t most_examples)
    : file_(file), buffer_(options, padding), chosen_(static_cast<size_t>(options.sequences)), lengths_(chosen_.size()) {
  check(most_examples >= 0, "LabelledEvaluationBatches: a negative number of examples");
  demand_examples(file);
  taken_ = most_examples == 0 ? file.examples() : std::min(most_examples, file.examples());
}

int64_t LabelledEvaluationBatches::rounds() const { return divide_up(taken_, checked_multiply(buffer_.options().lanes, buffer_.options().sequences)); }

int64_t LabelledEvaluationBatches::example(int64_t number) const { return taken_ == file_.examples() ? number : window_order(number, file_.examples(), 0, 0); }

bool LabelledEvaluationBatches::choose(int64_t round, int lane) {
  const BatchOptions& options = buffer_.options();
  check(round >= 0 && round < rounds() && lane >= 0, "LabelledEvaluationBatches: no such micro-batch");
  if (lane >= options.lanes) return false;
  const int64_t first = (round * options.lanes + lane) * options.sequences;
  for (int64_t b = 0; b < options.sequences; ++b) {
    const bool any = first + b < taken_;
    chosen_[static_cast<size_t>(b)] = any ? example(first + b) : kNoExample;
    lengths_[static_cast<size_t>(b)] = any ? file_.length(chosen_[static_cast<size_t>(b)]) : kNoExample;
  }
  return first < taken_;
}

Counts LabelledEvaluationBatches::counts(int64_t round) {
  Counts sum;
  for (int lane = 0; lane < buffer_.options().lanes; ++lane) {
    if (choose(round, lane)) buffer_.count(lengths_, sum);
  }
  return sum;
}

MicroBatch LabelledEvaluationBatches::at(int64_t round, int lane) {
  if (!choose(round, lane)) return numbered(buffer_.empty(), 0, lane, buffer_.options());
  for (size_t b = 0; b < chosen_.size(); ++b) read_example(file_, chosen_[b], static_cast<int64_t>(b), buffer_);
  return numbered(buffer_.batch(), 0, lane, buffer_.options());
}

TextBatch::TextBatch(const Tokenizer& tokenizer, const BatchOptions& options) : encoder_(tokenizer.encoder()), buffer_(options, tokenizer.end_of_document()) {}

MicroBatch TextBatch::of(std::span<const std::string> texts) {
  const int64_t sequences = buffer_.options().sequences;
  check(static_cast<int64_t>(texts.size()) <= sequences, "TextBatch: more texts than sequences");
  std::vector<int64_t> lengths(static_cast<size_t>(sequences), kNoExample);
  std::vector<int32_t> tokens;
  for (size_t b = 0; b < lengths.size(); ++b) {
    tokens.clear();
    if (b < texts.size()) {
      encoder_->append(texts[b], tokens);
      lengths[b] = static_cast<int64_t>(tokens.size());
    }
    const int64_t length = static_cast<int64_t>(tokens.size());
    const std::span<int32_t> into = buffer_.prepare(static_cast<int64_t>(b), length, -1);
    std::copy_n(tokens.begin() + buffer_.place(length).first, into.size(), into.begin());
  }
  counts_ = {};
  buffer_.count(lengths, counts_);
  return buffer_.batch();
}

}  // namespace switchyard
