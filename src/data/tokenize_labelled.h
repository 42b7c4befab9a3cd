// tokenize --labelled: labelled texts become a folder with train.examples, heldout.examples, tokenizer and labels.
#pragma once

#include <cstdint>
#include <string>

#include "src/data/example_file.h"
#include "src/data/labelled_text.h"
#include "src/data/labels.h"
#include "src/data/tokenizer.h"
#include "src/data/words.h"

namespace switchyard {

class OutputFolder;

inline constexpr int64_t kDefaultExampleHoldOut = 10;

struct LabelledTokenizeOptions {
  LabelledOptions source;            // one folder that holds folders train and test gives both parts
  std::vector<std::string> heldout;  // read as the source is; none: by hash
  TokenizerKind kind = TokenizerKind::kWords;
  int64_t vocabulary = kDefaultWords;       // of words and SentencePiece; bytes have 257
  std::string tokenizer;                    // use this tokenizer file instead of making one; empty: make one
  int64_t one_in = kDefaultExampleHoldOut;  // without `heldout`: hold out one example in so many, by its text; 0: none
  int threads = 2;                          // the result does not depend on it
  std::string output;                       // folder; must be absent or empty
};

struct LabelledTokenizeReport {
  LabelledCounts source;
  Labels labels;
  ExampleFileInfo train, heldout;
  Digest tokenizer;
  int64_t texts_without_token = 0;
  double tokenizer_seconds = 0, encode_seconds = 0;
};

// Classes and tokenizer come from the training examples only; equal texts are on one side of the hold-out by hash. The folder
// appears whole, by a rename, or not at all.
// Errors: kUsage where output holds something or an option is out of range; else those of read_labelled, Labels, the
// tokenizers and the files; kData where a held-out label is not among those of training, or nothing is left to train on.
LabelledTokenizeReport tokenize_labelled(const LabelledTokenizeOptions& options);

// The same into a folder that somebody else commits; options.output means nothing.
LabelledTokenizeReport tokenize_labelled_into(const OutputFolder& folder, const LabelledTokenizeOptions& options);

}  // namespace switchyard
