// The SentencePiece tokenizer. Only sentence_piece.cpp and train_sentence_piece.cpp know the library.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/data/tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace switchyard {

struct LearnedPiece {
  std::string text;  // spaces as spaces
  float score = 0;   // natural logarithm of the piece's probability
};

class SentencePieceTokenizer : public Tokenizer {
 public:
  // Throws Error(kData) where a piece breaks a rule: 1 to 255 bytes of UTF-8 without line end, NUL or U+2581; a space only
  // in front or spaces only; a finite score; no piece twice; none that reads like a name of the library.
  explicit SentencePieceTokenizer(std::vector<LearnedPiece> learned);
  ~SentencePieceTokenizer() override;

  // The inverse of payload(). Throws Error(kData).
  static std::unique_ptr<SentencePieceTokenizer> from_payload(std::string_view payload);

  TokenizerKind kind() const override { return TokenizerKind::kSentencePiece; }
  std::unique_ptr<Encoder> encoder() const override;
  std::string name(int32_t id) const override;
  int32_t end_of_document() const override { return 0; }
  std::string payload() const override;

  // Appends the tokens of one word of cut_segments.
  void append_word(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  std::vector<LearnedPiece> learned_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

// Tokens before the learned pieces: end of document, line ends, bytes.
inline constexpr int32_t kFirstLineEnd = 1;
inline constexpr int32_t kFirstByte = 17;
inline constexpr int32_t kFirstLearned = 273;
// The library's model holds <unk> as 0, the bytes as 1 .. 256, then the learned pieces.
inline constexpr int32_t kLibraryOffset = 16;
inline constexpr int64_t kMostVocabulary = 1000000;

}  // namespace switchyard
