#include "src/data/example_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "src/base/error.h"
#include "src/data/framing.h"
#include "src/data/labels.h"
#include "src/data/little_endian.h"

namespace switchyard {

namespace {

constexpr std::string_view kMagic = "SWYLABEL";
constexpr uint32_t kVersion = 1;
constexpr int64_t kHeaderBytes = 8 + 4 + 4 + 5 * 8 + 2 * 16 + kSplitBytes + 3 * 16;
constexpr int64_t kHeaderDigestOffset = kHeaderBytes - 16;
constexpr int64_t kIndexBytes = 8 + 4;        // of an example: end and label
constexpr size_t kPending = size_t{1} << 20;  // bytes collected before they are written

struct Header {
  ExampleFileInfo info;
  int64_t token_bytes = 0;
  Digest tokens, index;
};

Error bad(const std::string& path, const std::string& what) {
  return Error(ExitCode::kData, fmt::format("{} is not a usable example file: {}; tokenize the labelled texts again", path, what));
}

std::string format_header(const Header& header) {
  const ExampleFileInfo& info = header.info;
  std::string bytes(kMagic);
  append_little_endian(bytes, kVersion);
  append_little_endian(bytes, static_cast<uint32_t>(header.token_bytes));
  for (const int64_t number : {info.vocabulary, info.classes, info.examples, info.tokens, info.source_bytes}) append_little_endian(bytes, number);
  append_digest(bytes, info.tokenizer);
  append_digest(bytes, info.labels);
  append_split_name(bytes, info.split);
  append_digest(bytes, header.tokens);
  append_digest(bytes, header.index);
  append_digest(bytes, digest_of(bytes));
  return bytes;
}

// Numbers that the file may claim, before anything is computed from them.
void check_numbers(const Header& header, const std::string& path, int64_t file_size) {
  const ExampleFileInfo& info = header.info;
  if (info.vocabulary < 1 || info.vocabulary > std::numeric_limits<int32_t>::max() || header.token_bytes != token_bytes_for(info.vocabulary)) {
    throw bad(path, fmt::format("it claims a vocabulary of {} in tokens of {} bytes", info.vocabulary, header.token_bytes));
  }
  if (info.classes < 1 || info.classes > kMostLabels || info.source_bytes < 0 || !good_split_name(info.split)) {
    throw bad(path, "its header holds numbers or a name that no example file has");
  }
  const int64_t data = file_size - kHeaderBytes;
  const bool possible = info.tokens >= 0 && info.examples >= 0 && info.tokens <= data / header.token_bytes && info.examples <= data / kIndexBytes;
  if (!possible || info.tokens * header.token_bytes + info.examples * kIndexBytes != data) {
    throw bad(path,
              fmt::format("{} tokens and {} examples do not make a file of {} bytes, so it was truncated or extended", info.tokens, info.examples, file_size));
  }
}

Header parse_header(const InputFile& file) {
  const std::string& path = file.path();
  if (file.size() < kHeaderBytes) throw bad(path, fmt::format("it has {} bytes, and its header alone {}", file.size(), kHeaderBytes));
  std::string bytes(kHeaderBytes, '\0');
  file.read(0, bytes.data(), kHeaderBytes);
  std::string_view rest = bytes;
  if (!rest.starts_with(kMagic)) throw bad(path, "it does not begin with SWYLABEL");
  rest.remove_prefix(kMagic.size());
  const uint32_t version = take_little_endian<uint32_t>(rest);
  if (version != kVersion) throw bad(path, fmt::format("it has version {}, and this program reads version {}", version, kVersion));

  Header header;
  header.token_bytes = take_little_endian<uint32_t>(rest);
  header.info.vocabulary = take_little_endian<int64_t>(rest);
  header.info.classes = take_little_endian<int64_t>(rest);
  header.info.examples = take_little_endian<int64_t>(rest);
  header.info.tokens = take_little_endian<int64_t>(rest);
  header.info.source_bytes = take_little_endian<int64_t>(rest);
  header.info.tokenizer = take_digest(rest);
  header.info.labels = take_digest(rest);
  header.info.split = take_split_name(rest);
  header.tokens = take_digest(rest);
  header.index = take_digest(rest);
  if (take_digest(rest) != digest_of(std::string_view(bytes).substr(0, kHeaderDigestOffset))) throw bad(path, "the checksum of its header does not fit");
  check_numbers(header, path, file.size());
  return header;
}

template <class T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

ExampleFile::ExampleFile(const std::string& path) : file_(path, "example file") {
  const Header header = parse_header(file_);
  info_ = header.info;
  token_bytes_ = header.token_bytes;
  index_offset_ = kHeaderBytes + info_.tokens * token_bytes_;
  check_tokens(header.tokens);
  read_index(header.index);
}

void ExampleFile::check_tokens(const Digest& expected) const {
  const TokenScan scan = scan_tokens(file_, kHeaderBytes, index_offset_, {token_bytes_, info_.vocabulary}, 0);
  if (scan.digest != expected) throw bad(path(), "the checksum of its tokens does not fit");
  if (scan.outside > 0) throw bad(path(), fmt::format("{} of its tokens are outside the vocabulary of {}", scan.outside, info_.vocabulary));
}

void ExampleFile::read_index(const Digest& expected) {
  ends_.resize(static_cast<size_t>(info_.examples));
  labels_.resize(static_cast<size_t>(info_.examples));
  file_.read(index_offset_, ends_.data(), info_.examples * 8);
  file_.read(index_offset_ + info_.examples * 8, labels_.data(), info_.examples * 4);
  DigestStream digest;
  digest.add(bytes_of(ends_));
  digest.add(bytes_of(labels_));
  if (digest.digest() != expected) throw bad(path(), "the checksum of its index does not fit");
  if (!std::is_sorted(ends_.begin(), ends_.end()) || (!ends_.empty() && ends_.front() < 0) || (ends_.empty() ? 0 : ends_.back()) != info_.tokens) {
    throw bad(path(), "its examples do not cover its tokens");
  }
  const auto outside = [&](int32_t label) { return label < 0 || label >= info_.classes; };
  if (std::any_of(labels_.begin(), labels_.end(), outside)) throw bad(path(), fmt::format("it holds a label that is none of its {} classes", info_.classes));
}

void ExampleFile::demand(const Digest& tokenizer, const Digest& labels) const {
  if (tokenizer != info_.tokenizer) {
    throw Error(ExitCode::kData, fmt::format("{} was made with tokenizer {}, not with {}; tokenize the labelled texts again, or name the tokenizer that it was "
                                             "made with",
                                             path(), info_.tokenizer.hex(), tokenizer.hex()));
  }
  if (labels != info_.labels) throw Error(ExitCode::kData, fmt::format("{} was made with other labels; tokenize the labelled texts again", path()));
}

int32_t ExampleFile::label(int64_t example) const {
  check(example >= 0 && example < examples(), "ExampleFile::label: no such example");
  return labels_[static_cast<size_t>(example)];
}

int64_t ExampleFile::length(int64_t example) const {
  check(example >= 0 && example < examples(), "ExampleFile::length: no such example");
  return ends_[static_cast<size_t>(example)] - (example > 0 ? ends_[static_cast<size_t>(example - 1)] : 0);
}

void ExampleFile::read(int64_t example, int64_t first, std::span<int32_t> into) const {
  const int64_t tokens = length(example), wanted = static_cast<int64_t>(into.size());
  check(first >= 0 && first <= tokens && wanted <= tokens - first, "ExampleFile::read: outside the example");
  if (wanted == 0) return;
  const int64_t begin = ends_[static_cast<size_t>(example)] - tokens + first;
  if (read_tokens(file_, kHeaderBytes + begin * token_bytes_, {token_bytes_, info_.vocabulary}, into)) return;
  throw bad(path(), "it was changed while it was in use, and now holds a token outside its vocabulary");
}

ExampleFileWriter::ExampleFileWriter(const std::string& path, const ExampleFileInfo& info)
    : file_(path), info_(info), token_bytes_(token_bytes_for(info.vocabulary)) {
  check(good_split_name(info_.split), "ExampleFileWriter: a split's name has 1 to 15 letters, digits or -");
  check(info_.vocabulary > 0 && info_.classes > 0, "ExampleFileWriter: no vocabulary or no classes");
  info_.examples = info_.tokens = info_.source_bytes = 0;
  file_.append(std::string(kHeaderBytes, '\0'));  // its place; finish() fills it
}

void ExampleFileWriter::add(int32_t label, std::span<const int32_t> tokens, int64_t source_bytes) {
  check(label >= 0 && label < info_.classes, "ExampleFileWriter: no such class");
  for (const int32_t token : tokens) {
    check(token >= 0 && token < info_.vocabulary, "ExampleFileWriter: a token outside the vocabulary");
    append_token(pending_, token, token_bytes_);
  }
  info_.tokens += static_cast<int64_t>(tokens.size());
  info_.source_bytes += source_bytes;
  ++info_.examples;
  ends_.push_back(info_.tokens);
  labels_.push_back(label);
  if (pending_.size() >= kPending) flush();
}

void ExampleFileWriter::flush() {
  token_digest_.add(pending_);
  file_.append(pending_);
  pending_.clear();
}

ExampleFileInfo ExampleFileWriter::finish() {
  flush();
  DigestStream index;
  for (const std::string_view part : {bytes_of(ends_), bytes_of(labels_)}) {
    index.add(part);
    file_.append(part);
  }
  file_.write_at(0, format_header({info_, token_bytes_, token_digest_.digest(), index.digest()}));
  file_.commit();
  return info_;
}

}  // namespace switchyard
