// What commands that tokenize labelled texts share.
#pragma once

#include <string>

#include "src/data/tokenize_labelled.h"

namespace switchyard {

// "sentencepiece", "words", "bytes", or the path of a tokenizer file.
struct TokenizerChoice {
  TokenizerKind kind = TokenizerKind::kSentencePiece;
  std::string file;  // empty: make one of this kind
};
TokenizerChoice tokenizer_choice(const std::string& name);

// To standard output.
void print_report(const LabelledTokenizeReport& report, const std::string& output, bool json);

}  // namespace switchyard
