// RunData: what a configuration's model is trained on: a text for a decoder, labelled texts for a classifier.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/config/config.pb.h"
#include "src/data/batch_source.h"
#include "src/data/labelled_dataset.h"
#include "src/data/tokenize.h"

namespace switchyard {

class RunData {
 public:
  RunData() = default;
  // Opens a folder made by tokenize, or what the program makes itself. Throws Error(kUsage) where the tokenizer has more ids
  // than the model has rows or the labels are not as many as the classes, and the errors of opening.
  explicit RunData(const Config& config);

  const Tokenizer& tokenizer() const { return labelled_.tokenizer ? *labelled_.tokenizer : *text_.tokenizer; }
  const Labels& labels() const { return labelled_.labels; }  // of a classifier's data

  // Throws Error(kData) unless the tokenizer has this digest (Tokenizer::digest().hex()), with which `run` was trained.
  // Empty: anything is right.
  void expect_tokenizer(const std::string& digest, const std::string& run) const;

  // What these give refers to the data, which must outlive it.
  std::unique_ptr<BatchSource> train(const Config& config) const;
  // The first `most_micro_batches` micro-batches of the hold-out, 0: all. Null where nothing is held out.
  std::unique_ptr<EvaluationSource> heldout(const Config& config, int64_t most_micro_batches) const;
  // Of the held-out text before tokenizing; 0 for labelled texts.
  int64_t heldout_bytes() const { return text_.heldout ? text_.heldout->info().source_bytes : 0; }
  // Steps after which each pass over the training examples is complete; none unless train.epochs is given.
  std::vector<int64_t> epoch_ends(const Config& config) const;

 private:
  Dataset text_;              // this one
  LabelledDataset labelled_;  // or that one
};

}  // namespace switchyard
