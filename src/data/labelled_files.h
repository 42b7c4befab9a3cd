// The files of labelled text, one reader for each format. Only labelled_text.cpp uses them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "src/data/labelled_text.h"
#include "src/data/text_stream.h"

namespace switchyard {

// What all readers hand their examples to: limits, encoding, labels and counts.
class LabelledReader {
 public:
  LabelledReader(const LabelledOptions& of, const std::function<void(const LabelledExample&)>& visit) : options(of), visit_(visit) {}

  // Any bytes; line 0: the file is the text. Throws Error(kData) where they are not in the encoding, or the label is empty or
  // too long.
  void add(std::string_view label, std::string_view text, const std::string& path, int64_t line);
  // `bytes` as valid UTF-8; a view of them or of `repaired`. Throws Error(kData).
  std::string_view valid(std::string_view bytes, std::string& repaired, const std::string& path, int64_t line);
  // A file's bytes, within what is left of the limit for all files.
  TextStream open(const std::string& path) const { return TextStream(path, options.most_bytes - counts.bytes); }

  const LabelledOptions& options;
  LabelledCounts counts;

 private:
  const std::function<void(const LabelledExample&)>& visit_;
  std::string repaired_label_, repaired_text_;
};

// Which columns of a table are read.
struct Columns {
  size_t label = 0, text = 1;  // from 0
  bool header = false;         // the first row holds names
};
// From the options and the first row's fields. Throws Error(kUsage) where a name is not there or both are one column.
Columns columns_of(const LabelledOptions& options, const std::vector<std::string_view>& first_row, const std::string& path);

void read_tsv(const std::string& path, LabelledReader& reader);
void read_csv(const std::string& path, LabelledReader& reader);
void read_jsonl(const std::string& path, LabelledReader& reader);
void read_text_file(const std::string& path, const std::string& label, LabelledReader& reader);

}  // namespace switchyard
