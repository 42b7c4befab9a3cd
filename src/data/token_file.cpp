#include "src/data/token_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "src/base/error.h"
#include "src/data/framing.h"
#include "src/data/little_endian.h"

namespace switchyard {

namespace {

constexpr std::string_view kMagic = "SWYTOKEN";
constexpr uint32_t kVersion = 1;
constexpr int64_t kHeaderBytes = 8 + 4 + 4 + 5 * 8 + 16 + kSplitBytes + 3 * 16;
constexpr int64_t kHeaderDigestOffset = kHeaderBytes - 16;
constexpr int64_t kBlock = int64_t{1} << 18;  // bytes read at once while checking
constexpr size_t kPending = size_t{1} << 20;  // bytes collected before they are written

struct Header {
  TokenFileInfo info;
  int64_t token_bytes = 0;
  Digest tokens, index;
};

Error bad(const std::string& path, const std::string& what) {
  return Error(ExitCode::kData, fmt::format("{} is not a usable token file: {}; tokenize the corpus again", path, what));
}

std::string format_header(const Header& header) {
  const TokenFileInfo& info = header.info;
  std::string bytes(kMagic);
  append_little_endian(bytes, kVersion);
  append_little_endian(bytes, static_cast<uint32_t>(header.token_bytes));
  for (const int64_t number : {info.vocabulary, info.documents, info.tokens, info.source_bytes, int64_t{info.end_of_document}})
    append_little_endian(bytes, number);
  append_digest(bytes, info.tokenizer);
  append_split_name(bytes, info.split);
  append_digest(bytes, header.tokens);
  append_digest(bytes, header.index);
  append_digest(bytes, digest_of(bytes));
  return bytes;
}

// Numbers that the file may claim, before anything is computed from them.
void check_numbers(const Header& header, const std::string& path, int64_t file_size) {
  const TokenFileInfo& info = header.info;
  if (info.vocabulary < 1 || info.vocabulary > std::numeric_limits<int32_t>::max() || header.token_bytes != token_bytes_for(info.vocabulary)) {
    throw bad(path, fmt::format("it claims a vocabulary of {} in tokens of {} bytes", info.vocabulary, header.token_bytes));
  }
  if (info.end_of_document < 0 || info.end_of_document >= info.vocabulary || info.source_bytes < 0 || !good_split_name(info.split)) {
    throw bad(path, "its header holds numbers or a name that no token file has");
  }
  const int64_t data = file_size - kHeaderBytes;
  const bool possible = info.tokens >= 0 && info.documents >= 0 && info.tokens <= data / header.token_bytes && info.documents <= data / 8;
  if (!possible || info.tokens * header.token_bytes + info.documents * 8 != data) {
    throw bad(path, fmt::format("{} tokens and {} documents do not make a file of {} bytes, so it was truncated or extended", info.tokens, info.documents,
                                file_size));
  }
}

Header parse_header(const InputFile& file) {
  const std::string& path = file.path();
  if (file.size() < kHeaderBytes) throw bad(path, fmt::format("it has {} bytes, and its header alone {}", file.size(), kHeaderBytes));
  std::string bytes(kHeaderBytes, '\0');
  file.read(0, bytes.data(), kHeaderBytes);
  std::string_view rest = bytes;
  if (!rest.starts_with(kMagic)) throw bad(path, "it does not begin with SWYTOKEN");
  rest.remove_prefix(kMagic.size());
  const uint32_t version = take_little_endian<uint32_t>(rest);
  if (version != kVersion) throw bad(path, fmt::format("it has version {}, and this program reads version {}", version, kVersion));

  Header header;
  header.token_bytes = take_little_endian<uint32_t>(rest);
  header.info.vocabulary = take_little_endian<int64_t>(rest);
  header.info.documents = take_little_endian<int64_t>(rest);
  header.info.tokens = take_little_endian<int64_t>(rest);
  header.info.source_bytes = take_little_endian<int64_t>(rest);
  const int64_t end_of_document = take_little_endian<int64_t>(rest);
  header.info.tokenizer = take_digest(rest);
  header.info.split = take_split_name(rest);
  header.tokens = take_digest(rest);
  header.index = take_digest(rest);
  if (take_digest(rest) != digest_of(std::string_view(bytes).substr(0, kHeaderDigestOffset))) throw bad(path, "the checksum of its header does not fit");
  header.info.end_of_document = static_cast<int32_t>(std::clamp<int64_t>(end_of_document, -1, std::numeric_limits<int32_t>::max()));
  check_numbers(header, path, file.size());
  return header;
}

}  // namespace

TokenFile::TokenFile(const std::string& path) : file_(path, "token file") {
  const Header header = parse_header(file_);
  info_ = header.info;
  token_bytes_ = header.token_bytes;
  index_offset_ = kHeaderBytes + info_.tokens * token_bytes_;
  check_tokens(header.tokens);
  check_index(header.index);
}

void TokenFile::check_tokens(const Digest& expected) const {
  const TokenScan scan = scan_tokens(file_, kHeaderBytes, index_offset_, {token_bytes_, info_.vocabulary}, info_.end_of_document);
  if (scan.digest != expected) throw bad(path(), "the checksum of its tokens does not fit");
  if (scan.outside > 0) throw bad(path(), fmt::format("{} of its tokens are outside the vocabulary of {}", scan.outside, info_.vocabulary));
  if (scan.found != info_.documents) throw bad(path(), fmt::format("{} documents are claimed, and {} tokens end one", info_.documents, scan.found));
}

void TokenFile::check_index(const Digest& expected) const {
  std::string block(kBlock, '\0');
  DigestStream digest;
  int64_t previous = 0;
  bool rising = true;
  for (int64_t offset = index_offset_; offset < file_.size(); offset += kBlock) {
    const int64_t bytes = std::min(kBlock, file_.size() - offset);
    file_.read(offset, block.data(), bytes);
    std::string_view rest(block.data(), static_cast<size_t>(bytes));
    digest.add(rest);
    while (!rest.empty()) {
      const int64_t end = take_little_endian<int64_t>(rest);
      rising = rising && end > previous;
      previous = end;
    }
  }
  if (digest.digest() != expected) throw bad(path(), "the checksum of its documents does not fit");
  if (!rising || previous != info_.tokens) throw bad(path(), "its documents do not cover its tokens");
}

void TokenFile::demand_tokenizer(const Digest& tokenizer) const {
  if (tokenizer == info_.tokenizer) return;
  throw Error(ExitCode::kData, fmt::format("{} was made with tokenizer {}, not with {}; tokenize the corpus again, or name the tokenizer that it was made with",
                                           path(), info_.tokenizer.hex(), tokenizer.hex()));
}

void TokenFile::read(int64_t first, std::span<int32_t> into) const {
  check(first >= 0 && first <= tokens() && static_cast<int64_t>(into.size()) <= tokens() - first, "TokenFile::read: outside the file");
  if (read_tokens(file_, kHeaderBytes + first * token_bytes_, {token_bytes_, info_.vocabulary}, into)) return;
  throw bad(path(), "it was changed while it was in use, and now holds a token outside its vocabulary");
}

TokenFile::Range TokenFile::document(int64_t index) const {
  check(index >= 0 && index < documents(), "TokenFile::document: no such document");
  Range range;
  if (index > 0) file_.read(index_offset_ + (index - 1) * 8, &range.first, 8);
  file_.read(index_offset_ + index * 8, &range.end, 8);
  if (range.first < 0 || range.end <= range.first || range.end > tokens()) throw bad(path(), "it was changed while it was in use");
  return range;
}

std::unique_ptr<TokenFile> open_token_file(const std::string& path) { return std::make_unique<TokenFile>(path); }

TokenFileWriter::TokenFileWriter(const std::string& path, const TokenFileInfo& info)
    : file_(path), info_(info), token_bytes_(token_bytes_for(info.vocabulary)) {
  check(good_split_name(info_.split), "TokenFileWriter: a split's name has 1 to 15 letters, digits or -");
  check(info_.end_of_document >= 0 && info_.end_of_document < info_.vocabulary, "TokenFileWriter: the end of a document is outside the vocabulary");
  info_.documents = info_.tokens = info_.source_bytes = 0;
  file_.append(std::string(kHeaderBytes, '\0'));  // its place; finish() fills it
}

void TokenFileWriter::add_document(std::span<const int32_t> tokens, int64_t source_bytes) {
  for (const int32_t token : tokens) {
    check(token != info_.end_of_document, "TokenFileWriter: the end of a document inside one");
    append(token);
  }
  append(info_.end_of_document);
  info_.tokens += static_cast<int64_t>(tokens.size()) + 1;
  info_.source_bytes += source_bytes;
  ++info_.documents;
  ends_.push_back(info_.tokens);
  if (pending_.size() >= kPending) flush();
}

void TokenFileWriter::append(int32_t token) {
  check(token >= 0 && token < info_.vocabulary, "TokenFileWriter: a token outside the vocabulary");
  append_token(pending_, token, token_bytes_);
}

void TokenFileWriter::flush() {
  token_digest_.add(pending_);
  file_.append(pending_);
  pending_.clear();
}

TokenFileInfo TokenFileWriter::finish() {
  flush();
  const std::string_view index(reinterpret_cast<const char*>(ends_.data()), ends_.size() * sizeof ends_[0]);
  file_.append(index);
  file_.write_at(0, format_header({info_, token_bytes_, token_digest_.digest(), digest_of(index)}));
  file_.commit();
  return info_;
}

}  // namespace switchyard
