// The words tokenizer: what Keras' TextVectorization does with its defaults.
//
//   0  padding        1  a word that is not in the vocabulary        2 ..  the words, the most frequent one first
//
// A text is written in lower case, its ASCII punctuation is taken away (not replaced: "don't" is "dont"), and it is cut at
// ASCII white space.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/data/tokenizer.h"

namespace switchyard {

inline constexpr int64_t kDefaultWords = 20000;
inline constexpr int32_t kUnknownWord = 1;
inline constexpr int32_t kFirstWord = 2;
inline constexpr size_t kMostWordLength = 255;  // bytes; a longer word is never in the vocabulary

// Lower case, without ASCII punctuation; white space stays. `text` must be valid UTF-8. Letters of ASCII, Latin-1, Latin
// Extended-A, Greek (U+0391 on) and Cyrillic (U+0400 on) have a lower case here; U+0130 becomes i. Others stay.
std::string standardized(std::string_view text);

class WordsTokenizer : public Tokenizer {
 public:
  // Words in order of their numbers, from 2 on. Throws Error(kData) where a word breaks a rule: 1 to 255 bytes of UTF-8 that
  // standardized() leaves as they are, without white space; none twice.
  explicit WordsTokenizer(std::vector<std::string> words);
  WordsTokenizer(const WordsTokenizer&) = delete;
  WordsTokenizer& operator=(const WordsTokenizer&) = delete;

  // The inverse of payload(). Throws Error(kData).
  static std::unique_ptr<WordsTokenizer> from_payload(std::string_view payload);

  TokenizerKind kind() const override { return TokenizerKind::kWords; }
  std::unique_ptr<Encoder> encoder() const override;
  std::string name(int32_t id) const override;  // "<pad>", "[UNK]", "word"
  int32_t end_of_document() const override { return 0; }
  std::string payload() const override;
  // The words, with spaces between them; "[UNK]" for an unknown one, nothing for padding.
  std::string decode(std::span<const int32_t> ids) const override;

  // Appends the tokens of a text in standard form.
  void append_words(std::string_view standard, std::vector<int32_t>& ids) const;

 private:
  std::unordered_map<std::string_view, int32_t> numbers_;  // views of pieces_; looked up only, never walked
};

// The vocabulary - 2 most frequent words of the documents; of equally frequent ones those that come first by their bytes.
// Fewer words make a smaller vocabulary. Errors: kUsage for a vocabulary outside 3 .. 1,000,000; kData where there is no
// word, or more different ones than memory should hold.
std::unique_ptr<Tokenizer> train_words(const DocumentSource& documents, int64_t vocabulary = kDefaultWords);

}  // namespace switchyard
