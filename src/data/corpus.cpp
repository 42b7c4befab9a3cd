#include "src/data/corpus.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "src/base/error.h"
#include "src/data/text_stream.h"
#include "src/data/utf8.h"

namespace switchyard {

namespace {

// The hash that holds out documents has a seed of its own, so that it is independent of other uses of the text's hash.
constexpr uint64_t kHoldOutSeed = 0x686f6c646f7574;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_blank(std::string_view text) {
  for (const char c : text) {
    if (!is_space(c)) return false;
  }
  return true;
}

// Puts lines together to documents.
class Splitter {
 public:
  Splitter(const CorpusOptions& options, const std::function<void(std::string_view)>& visit) : options_(options), visit_(visit) {}

  void begin_file(const std::string& path) { path_ = path; }

  // `line` without its end; `offset` is that of its first byte in the unpacked file; `ended`: a line end follows.
  void add_line(std::string_view line, int64_t offset, bool ended) {
    switch (options_.documents) {
      case Documents::kLine:
        append(line, offset);
        finish();
        break;
      case Documents::kBlankLine:
        if (is_blank(line)) {
          finish();
        } else {
          append(line, offset);
        }
        break;
      case Documents::kGcide:
        if (after_empty_line_ && !line.empty() && !is_space(line[0])) {
          text_.pop_back();  // the empty line, which stands for itself in separator()
          finish();
        }
        after_empty_line_ = line.empty() && lines_ > 0;
        append(line, offset);
        break;
      case Documents::kFile:
        append(line, offset);
        if (ended) text_ += '\n';
        break;
    }
  }

  void end_file() {
    finish();
    after_empty_line_ = false;
  }

  CorpusCounts counts;

 private:
  void append(std::string_view line, int64_t offset) {
    if (lines_ == 0) offset_ = offset;
    if (lines_ > 0 && options_.documents != Documents::kFile) text_ += '\n';
    ++lines_;
    if (static_cast<int64_t>(text_.size() + line.size()) > options_.most_document_bytes) {
      throw Error(ExitCode::kData,
                  fmt::format("a document of {} has more than {} bytes; cut the text in smaller documents (--documents)", path_, options_.most_document_bytes));
    }
    text_ += line;
  }

  void finish() {
    if (!is_blank(text_)) {
      ++counts.documents;
      const size_t invalid = first_invalid_byte(text_);
      if (invalid == text_.size()) {
        visit_(text_);
      } else {
        visit_repaired(invalid);
      }
    }
    text_.clear();
    lines_ = 0;
  }

  void visit_repaired(size_t invalid) {
    if (options_.encoding == Encoding::kUtf8) {
      throw Error(ExitCode::kData, fmt::format("{} is not UTF-8 at byte {} (0x{:02x}); convert it, or read it with --encoding cp1252-fallback", path_,
                                               offset_ + static_cast<int64_t>(invalid), static_cast<unsigned char>(text_[invalid])));
    }
    std::string_view rest = text_;
    for (size_t at = invalid; at < rest.size(); at = first_invalid_byte(rest)) {
      ++counts.replaced_bytes;
      rest.remove_prefix(at + 1);
    }
    visit_(with_cp1252(text_));
  }

  const CorpusOptions& options_;
  const std::function<void(std::string_view)>& visit_;
  std::string path_;
  std::string text_;    // of the document at hand
  int64_t offset_ = 0;  // of its first byte
  int64_t lines_ = 0;   // in it
  bool after_empty_line_ = false;
};

void read_file(const std::string& path, const CorpusOptions& options, Splitter& splitter) {
  TextStream stream(path, options.most_bytes - splitter.counts.bytes);
  splitter.begin_file(path);
  std::string line;  // what has come of the line at hand
  int64_t offset = 0;
  for (std::string_view chunk = stream.next(); !chunk.empty(); chunk = stream.next()) {
    for (size_t end = chunk.find('\n'); end != std::string_view::npos; end = chunk.find('\n')) {
      line += chunk.substr(0, end);
      splitter.add_line(line, offset, true);
      offset += static_cast<int64_t>(line.size()) + 1;
      line.clear();
      chunk.remove_prefix(end + 1);
    }
    line += chunk;
    if (static_cast<int64_t>(line.size()) > options.most_document_bytes) {
      throw Error(ExitCode::kData, fmt::format("a line of {} has more than {} bytes; cut it in smaller ones", path, options.most_document_bytes));
    }
  }
  if (!line.empty()) splitter.add_line(line, offset, false);
  splitter.end_file();
  splitter.counts.bytes += stream.bytes();
}

}  // namespace

Documents documents_from(const std::string& text) {
  for (const Documents documents : {Documents::kGcide, Documents::kLine, Documents::kBlankLine, Documents::kFile}) {
    if (text == name(documents)) return documents;
  }
  throw Error(ExitCode::kUsage, fmt::format("documents is \"{}\" but must be gcide, line, blank-line or file", text));
}

Encoding encoding_from(const std::string& text) {
  for (const Encoding encoding : {Encoding::kUtf8, Encoding::kCp1252Fallback}) {
    if (text == name(encoding)) return encoding;
  }
  throw Error(ExitCode::kUsage, fmt::format("encoding is \"{}\" but must be utf-8 or cp1252-fallback", text));
}

const char* name(Documents documents) {
  switch (documents) {
    case Documents::kGcide: return "gcide";
    case Documents::kLine: return "line";
    case Documents::kBlankLine: return "blank-line";
    case Documents::kFile: return "file";
  }
  return "?";
}

const char* name(Encoding encoding) { return encoding == Encoding::kUtf8 ? "utf-8" : "cp1252-fallback"; }

std::string_view separator(Documents documents) {
  switch (documents) {
    case Documents::kGcide:
    case Documents::kBlankLine: return "\n\n";
    case Documents::kLine: return "\n";
    case Documents::kFile: return "";
  }
  return "";
}

CorpusCounts read_documents(const CorpusOptions& options, const std::function<void(std::string_view)>& visit) {
  if (options.paths.empty()) throw Error(ExitCode::kUsage, "no corpus was named; name at least one text file");
  Splitter splitter(options, visit);
  for (const std::string& path : options.paths) read_file(path, options, splitter);
  if (splitter.counts.documents == 0) {
    throw Error(ExitCode::kData, fmt::format("{} holds no text, only {} bytes of white space; name a file with text", options.paths[0], splitter.counts.bytes));
  }
  return splitter.counts;
}

bool held_out(std::string_view document, int64_t one_in) {
  return one_in > 0 && XXH3_64bits_withSeed(document.data(), document.size(), kHoldOutSeed) % static_cast<uint64_t>(one_in) == 0;
}

}  // namespace switchyard
