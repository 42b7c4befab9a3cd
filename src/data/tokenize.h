// tokenize: a corpus becomes a folder with train.tokens, heldout.tokens, tokenizer and heldout.txt.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "src/data/corpus.h"
#include "src/data/token_file.h"
#include "src/data/tokenizer.h"

namespace switchyard {

struct TokenizeOptions {
  CorpusOptions corpus;
  TokenizerKind kind = TokenizerKind::kSentencePiece;
  int64_t vocabulary = kDefaultVocabulary;  // SentencePiece only; bytes have 257
  std::string tokenizer;                    // use this tokenizer file instead of making one; empty: make one
  int64_t one_in = 50;                      // hold out one document in so many; 0: none
  int threads = 2;                          // the result does not depend on it
  std::string output;                       // folder; must be absent or empty
};

struct TokenizeReport {
  CorpusCounts corpus;
  TokenFileInfo train, heldout;
  Digest tokenizer;
  double tokenizer_seconds = 0, encode_seconds = 0;
};

// The tokenizer is trained on the training documents only. The folder appears whole, by a rename, or not at all.
// heldout.txt is the hold-out as text, separators included: its size is heldout.source_bytes.
// Errors: kUsage where output holds something or an option is out of range; else those of read_documents,
// train_sentencepiece and the files; kData where no document is left to train on.
TokenizeReport tokenize(const TokenizeOptions& options);

// What tokenize made. Errors: those of the files, and kData where they do not belong together.
struct Dataset {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<TokenFile> train, heldout;
};
Dataset open_dataset(const std::string& folder);

}  // namespace switchyard
