// Token file: the tokens of one split of a corpus, with their documents. README.md has the format.
//
// Reading goes through pread, a window at a time: ranks of one host share the page cache, memory does not grow with the
// corpus, and a file cut short under a run is a sentence, not a signal.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/data/digest.h"
#include "src/data/file.h"

namespace switchyard {

struct TokenFileInfo {
  std::string split;       // "train", "heldout": at most 15 letters, digits or -
  Digest tokenizer;        // Tokenizer::digest()
  int64_t vocabulary = 0;  // every token is below it
  int32_t end_of_document = 0;
  int64_t documents = 0;
  int64_t tokens = 0;        // separators included: one end-of-document token ends each document
  int64_t source_bytes = 0;  // of the text before tokenizing, separators included: the divisor of bits per byte
};

class TokenFile {
 public:
  // Checks sizes before anything is allocated, then every checksum and every token.
  // Errors: kInputOutput where it cannot be read; kData where it is no token file, of another version, truncated or damaged.
  explicit TokenFile(const std::string& path);

  const TokenFileInfo& info() const { return info_; }
  int64_t tokens() const { return info_.tokens; }
  int64_t documents() const { return info_.documents; }
  const std::string& path() const { return file_.path(); }

  // Throws Error(kData) if the file was made with another tokenizer.
  void demand_tokenizer(const Digest& tokenizer) const;

  // Tokens first .. first + into.size() - 1. Allocates nothing.
  void read(int64_t first, std::span<int32_t> into) const;

  struct Range {
    int64_t first = 0, end = 0;  // tokens; the last one is the end-of-document token
  };
  Range document(int64_t index) const;

 private:
  void check_tokens(const Digest& expected) const;
  void check_index(const Digest& expected) const;

  InputFile file_;
  TokenFileInfo info_;
  int64_t token_bytes_ = 2;
  int64_t index_offset_ = 0;
};

std::unique_ptr<TokenFile> open_token_file(const std::string& path);

// Writes a token file document by document. Nothing stands at `path` before finish(): a temporary file beside it is written,
// synced and renamed. Without finish() the temporary file is removed.
class TokenFileWriter {
 public:
  // info: split, tokenizer, vocabulary and end_of_document; the counts are counted.
  TokenFileWriter(const std::string& path, const TokenFileInfo& info);

  // `tokens` without the end-of-document token, which is added; source_bytes with the separator.
  void add_document(std::span<const int32_t> tokens, int64_t source_bytes);
  TokenFileInfo finish();

 private:
  void append(int32_t token);
  void flush();

  OutputFile file_;
  TokenFileInfo info_;
  int64_t token_bytes_;
  std::vector<int64_t> ends_;  // of the documents, in tokens
  std::string pending_;
  DigestStream token_digest_;
};

}  // namespace switchyard
