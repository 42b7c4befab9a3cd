// Labelled text: texts, each with the name of its class, from files and folders, streamed.
//
// TSV: fields end at tabs, the last one at the line's end; no quotes. CSV: RFC 4180. JSONL: an object in each line. A folder:
// one folder for each class, in it one .txt file for each text, as aclImdb. Files may be gzip. Memory: one text.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/data/corpus.h"

namespace switchyard {

enum class LabelledFormat : uint8_t {
  kByName,  // a folder, or by the file's name: .tsv, .csv, .jsonl, .ndjson or .json, each also with .gz
  kTsv,
  kCsv,
  kJsonl,
};

// "auto", "tsv", "csv", "jsonl". Throws Error(kUsage) for other names.
LabelledFormat labelled_format_from(const std::string& name);

struct LabelledOptions {
  std::vector<std::string> paths;                   // read in this order; files, or folders of classes
  LabelledFormat format = LabelledFormat::kByName;  // of files
  // Columns of tables: a name in the first row, or a number from 1. Empty: "label" and "text" if the first row holds both, in
  // any case, else the first and the second column. In JSONL: names of members, "label" and "text" if empty.
  std::string label_column, text_column;
  bool header = false;  // the first row of tables holds names, whatever it looks like
  Encoding encoding = Encoding::kUtf8;
  int64_t most_text_bytes = int64_t{64} << 20;  // of one text, and of one line
  int64_t most_bytes = int64_t{64} << 30;       // of all files, unpacked
};

struct LabelledExample {
  std::string_view label, text;  // valid UTF-8; white space around the label is gone
  std::string_view path;
  int64_t line = 0;           // where it begins; 0: the file is the text
  std::string place() const;  // "FILE, line 12"
};

struct LabelledCounts {
  int64_t examples = 0;
  int64_t bytes = 0;            // read, unpacked
  int64_t replaced_bytes = 0;   // read as Windows-1252
  bool left_out_unsup = false;  // a folder "unsup" (aclImdb's texts without label) was passed over
};

// Calls visit(example) for each example in order: of a folder by class, then by file name. Empty texts are examples, too;
// empty lines of tables and of JSONL are none. Line ends at the end of a .txt file belong to no text.
// Errors: kInputOutput where a file is missing or cannot be read; kUsage for a format or column that cannot be told; kData where
// a row, a quote, a JSON object, the encoding or a label is broken (with file and line), a class has no file, sizes are
// beyond the limits, and where there is no example at all.
LabelledCounts read_labelled(const LabelledOptions& options, const std::function<void(const LabelledExample&)>& visit);

// The folders of classes of training and of the hold-out, if `folder` holds both, as aclImdb: "train" and "test".
std::optional<std::pair<std::string, std::string>> train_and_test_folders(const std::string& folder);

}  // namespace switchyard
