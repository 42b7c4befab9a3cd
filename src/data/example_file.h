// Example file: labelled texts as tokens, whole, in order. README.md has the format.
//
// Tokens are read by pread when they are wanted; labels and lengths, 12 bytes an example, are kept.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/data/digest.h"
#include "src/data/file.h"

namespace switchyard {

struct ExampleFileInfo {
  std::string split;       // "train", "heldout": at most 15 letters, digits or -
  Digest tokenizer;        // Tokenizer::digest()
  Digest labels;           // Labels::digest()
  int64_t vocabulary = 0;  // every token is below it
  int64_t classes = 0;     // every label is below it
  int64_t examples = 0;
  int64_t tokens = 0;        // of all examples
  int64_t source_bytes = 0;  // of the texts before tokenizing
};

class ExampleFile {
 public:
  // Checks sizes before anything is allocated, then every checksum, token, label and length.
  // Errors: kInputOutput where it cannot be read; kData where it is no example file, of another version, truncated or damaged.
  explicit ExampleFile(const std::string& path);

  const ExampleFileInfo& info() const { return info_; }
  int64_t examples() const { return info_.examples; }
  const std::string& path() const { return file_.path(); }

  // Throws Error(kData) if the file was made with another tokenizer or other labels.
  void demand(const Digest& tokenizer, const Digest& labels) const;

  int32_t label(int64_t example) const;
  int64_t length(int64_t example) const;  // tokens of the text; 0 where it has none
  // Tokens first .. first + into.size() - 1 of the example. Allocates nothing.
  void read(int64_t example, int64_t first, std::span<int32_t> into) const;

 private:
  void check_tokens(const Digest& expected) const;
  void read_index(const Digest& expected);

  InputFile file_;
  ExampleFileInfo info_;
  int64_t token_bytes_ = 2;
  int64_t index_offset_ = 0;
  std::vector<int64_t> ends_;  // of the examples, in tokens
  std::vector<int32_t> labels_;
};

// Writes an example file example by example; it appears at `path` with finish(), or not at all.
class ExampleFileWriter {
 public:
  // info: split, tokenizer, labels, vocabulary and classes; the rest is counted.
  ExampleFileWriter(const std::string& path, const ExampleFileInfo& info);

  void add(int32_t label, std::span<const int32_t> tokens, int64_t source_bytes);
  ExampleFileInfo finish();

 private:
  void flush();

  OutputFile file_;
  ExampleFileInfo info_;
  int64_t token_bytes_;
  std::vector<int64_t> ends_;
  std::vector<int32_t> labels_;
  std::string pending_;
  DigestStream token_digest_;
};

}  // namespace switchyard
