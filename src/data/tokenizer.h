// Tokenizer: text to token numbers and back. Bytes and SentencePiece lose nothing: decode(encode(x)) == x for every valid
// UTF-8 text x. Words (words.h) keep a text's known words only, which is enough to classify it.
//
// Bytes: token b is byte b. SentencePiece: a unigram model (Kudo 2018) with byte fallback. What the library would not give
// back as it was (line ends, NUL, and U+2581, which it uses for spaces) never reaches it:
//
//   0                      end of document
//   1 .. 16                a line end and the first 0 .. 15 spaces after it, except the last one before a word
//   17 .. 272              single bytes, where no piece fits
//   273 .. vocabulary - 1  learned pieces
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/data/digest.h"

namespace switchyard {

// Encodes for one thread; it may remember words. The numbers do not depend on what it encoded before.
class Encoder {
 public:
  virtual ~Encoder() = default;
  // Appends the tokens of `text`. Throws Error(kData) naming the first byte that is not UTF-8.
  virtual void append(std::string_view text, std::vector<int32_t>& ids) = 0;
};

// Throws Error(kData) naming the first byte of `text` that is not UTF-8.
void demand_utf8(std::string_view text);

enum class TokenizerKind : uint32_t { kBytes = 0, kSentencePiece = 1, kWords = 2 };

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual TokenizerKind kind() const = 0;
  // The encoder refers to the tokenizer, which must outlive it. Tokenizers may be shared between threads.
  virtual std::unique_ptr<Encoder> encoder() const = 0;
  // How people see a token: "<end>", "<line+2>", "<0x41>", " word".
  virtual std::string name(int32_t id) const = 0;
  virtual int32_t end_of_document() const = 0;  // never made by an encoder; labelled texts are padded with it
  // What a tokenizer file holds beyond the kind.
  virtual std::string payload() const = 0;

  int64_t vocabulary() const { return static_cast<int64_t>(pieces_.size()); }
  // The bytes of a token; none for the end of a document. Throws Error(kData) for a number outside the vocabulary.
  const std::string& piece(int32_t id) const;
  std::vector<int32_t> encode(std::string_view text) const;
  // Any sequence of tokens has bytes; they need not be valid UTF-8 if no encoder made them.
  virtual std::string decode(std::span<const int32_t> ids) const;
  // Of kind and payload: token files and checkpoints name it.
  Digest digest() const;

 protected:
  std::vector<std::string> pieces_;  // by token
};

std::unique_ptr<Tokenizer> make_bytes_tokenizer();

inline constexpr int64_t kDefaultVocabulary = 8192;
inline constexpr int64_t kTrainingSentences = 200000;

// Gives the training documents one by one to its argument.
using DocumentSource = std::function<void(const std::function<void(std::string_view)>&)>;

// A SentencePiece unigram model of the documents: identity normalisation, byte fallback, no dummy prefix, no white space
// removed. Of more than `sentences` lines a sample of that size, drawn by line number alone, is used. The same documents
// give the same bytes: the library always gets two threads and a fixed order.
// Errors: kUsage for a vocabulary outside 384 .. 1,000,000; kData where the text is too small for it.
std::unique_ptr<Tokenizer> train_sentencepiece(const DocumentSource& documents, int64_t vocabulary = kDefaultVocabulary,
                                               int64_t sentences = kTrainingSentences);

// Reads and writes the tokenizer file (README.md). The file is checked completely before the library sees anything of it.
// Errors: kInputOutput; kData for a file that is damaged or is no tokenizer.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path);
void save_tokenizer(const Tokenizer& tokenizer, const std::string& path);

}  // namespace switchyard
