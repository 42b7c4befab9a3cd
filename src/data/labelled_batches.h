// Batches of labelled texts: what every lane works on in every step, as a pure function of (step, accumulation, lane).
//
// A text becomes a sequence of S tokens: a longer one is cut, a shorter one padded, on the sides that the options name,
// with the tokenizer's end-of-document token (0 with WORDS), mask 0. A text of no tokens is padding only, and its target
// counts. targets is [B]: a class for each sequence, -1 for a sequence that is no example.
//
// Without whole_length the padding that all sequences of a micro-batch end with is left out: its sequences have the
// longest text's number of tokens, rounded up to kLengthMultiple so that products have few shapes. That depends on the
// examples alone, so every lane has the same shape on any number of ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/memory.h"
#include "src/data/batch_source.h"
#include "src/data/example_file.h"
#include "src/data/tokenizer.h"

namespace switchyard {

inline constexpr int64_t kLengthMultiple = 16;

// One micro-batch of memory, filled sequence by sequence.
class SequenceBuffer {
 public:
  // padding: the token that stands where no text is. Throws as checked_options.
  SequenceBuffer(const BatchOptions& options, int32_t padding);

  const BatchOptions& options() const { return options_; }
  // Where the kept tokens of a text of `length` tokens come from and go to.
  struct Place {
    int64_t first = 0;   // of the text's tokens, the first one that is kept
    int64_t offset = 0;  // in the sequence, of its first kept token
    int64_t kept = 0;
  };
  Place place(int64_t length) const;
  // Pads sequence b around a text of `length` tokens and gives back where the kept ones go.
  std::span<int32_t> prepare(int64_t b, int64_t length, int32_t target);
  // All sequences, which must have been prepared. mask is none where nothing is padding.
  MicroBatch batch();
  MicroBatch empty() const;
  // Adds what a micro-batch of texts of these lengths counts; length -1: no example.
  void count(std::span<const int64_t> lengths, Counts& counts) const;

 private:
  // Tokens of a sequence where the longest text keeps `kept` of them.
  int64_t sequence_length(int64_t kept) const;

  BatchOptions options_;
  int32_t padding_;
  Buffer tokens_, mask_;                // [T] I32
  Buffer targets_;                      // [B] I32
  int64_t longest_ = 0, shortest_ = 0;  // kept tokens of the texts since the last batch(); S before the first
};

// Training: examples in the order of window_order(), epoch after epoch. The number of sequence b is
// ((step * A + accumulation) * W + lane) * B + b, and its epoch is that number / examples: where a step takes more examples
// than there are, it goes on with the next epoch.
class LabelledBatches : public BatchSource {
 public:
  // The file must outlive this object. Throws Error(kData) if it holds no example, else as checked_options.
  LabelledBatches(const ExampleFile& file, int32_t padding, const BatchOptions& options);

  int64_t examples() const { return file_.examples(); }  // of an epoch
  int64_t examples_per_step() const;
  // Steps after which `epochs` passes over the examples are complete, rounded up.
  int64_t steps(int64_t epochs) const;
  Counts counts(int64_t step) override;
  MicroBatch at(int64_t step, int accumulation, int lane) override;

 private:
  void choose(int64_t step, int accumulation, int lane);

  const ExampleFile& file_;
  SequenceBuffer buffer_;
  std::vector<int64_t> chosen_, lengths_;  // [B] examples of the micro-batch at hand, and their tokens
};

// Evaluation: every example once, in order; or a part of them, drawn from all, since examples often lie sorted by class. Sequences after the last example have
// target -1 and are padding only; a micro-batch without an example is empty. Example of sequence b: (round * W + lane) * B + b.
class LabelledEvaluationBatches : public EvaluationSource {
 public:
  // most_examples: only so many, always the same ones; 0: all. options.accumulate and seed mean nothing here.
  LabelledEvaluationBatches(const ExampleFile& file, int32_t padding, const BatchOptions& options, int64_t most_examples = 0);

  int64_t rounds() const override;
  int64_t targets() const override { return taken_; }
  Counts counts(int64_t round) override;
  MicroBatch at(int64_t round, int lane) override;

 private:
  bool choose(int64_t round, int lane);  // false: nothing left
  int64_t example(int64_t number) const;

  const ExampleFile& file_;
  SequenceBuffer buffer_;
  int64_t taken_ = 0;                      // examples
  std::vector<int64_t> chosen_, lengths_;  // -1: none
};

// Texts that nobody labelled, as one micro-batch of options.sequences sequences: the same tokens, padding and cuts as in
// training. Targets are -1.
class TextBatch {
 public:
  // The tokenizer must outlive this object.
  TextBatch(const Tokenizer& tokenizer, const BatchOptions& options);

  // At most options.sequences texts; the sequences after them are padding. Valid until the next call.
  // Throws Error(kData) where a text is not UTF-8.
  MicroBatch of(std::span<const std::string> texts);
  // Of the micro-batch that `of` gave last. `targets` counts texts.
  const Counts& counts() const { return counts_; }

 private:
  std::unique_ptr<Encoder> encoder_;
  SequenceBuffer buffer_;
  Counts counts_;
};

}  // namespace switchyard
