#include "src/data/framing.h"

#include <algorithm>
#include <cstring>

#include "src/data/little_endian.h"

namespace switchyard {

namespace {

constexpr int64_t kBlock = int64_t{1} << 18;   // bytes read at once while checking
constexpr int64_t kMostTwoByteTokens = 65536;  // a vocabulary up to this has tokens of two bytes

// T: the type of a token in the file. What is read lies at the end of `into` and is widened from the front, so that no other
// memory is needed: number i is written at 4 i, and the numbers after it are still to be read from 2 n + 2 (i + 1) on.
template <class T>
bool read_as(const InputFile& file, int64_t offset, int64_t vocabulary, std::span<int32_t> into) {
  char* raw = reinterpret_cast<char*>(into.data()) + into.size() * (sizeof(int32_t) - sizeof(T));
  file.read(offset, raw, static_cast<int64_t>(into.size() * sizeof(T)));
  bool inside = true;
  for (size_t i = 0; i < into.size(); ++i) {
    T token;
    std::memcpy(&token, raw + i * sizeof(T), sizeof(T));
    inside = inside && token < static_cast<uint64_t>(vocabulary);
    into[i] = static_cast<int32_t>(token);
  }
  return inside;
}

}  // namespace

void append_digest(std::string& bytes, const Digest& digest) { bytes.append(reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size()); }

Digest take_digest(std::string_view& bytes) {
  Digest digest;
  std::memcpy(digest.bytes.data(), bytes.data(), digest.bytes.size());
  bytes.remove_prefix(digest.bytes.size());
  return digest;
}

bool good_split_name(std::string_view name) {
  const auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'; };
  return !name.empty() && static_cast<int64_t>(name.size()) < kSplitBytes && std::all_of(name.begin(), name.end(), good);
}

void append_split_name(std::string& bytes, std::string_view name) {
  bytes += name;
  bytes.append(static_cast<size_t>(kSplitBytes) - name.size(), '\0');
}

std::string take_split_name(std::string_view& bytes) {
  std::string name(bytes.substr(0, kSplitBytes));
  name.resize(std::min(name.find('\0'), name.size()));
  bytes.remove_prefix(kSplitBytes);
  return name;
}

int64_t token_bytes_for(int64_t vocabulary) { return vocabulary <= kMostTwoByteTokens ? 2 : 4; }

void append_token(std::string& bytes, int32_t token, int64_t token_bytes) {
  if (token_bytes == 2) {
    append_little_endian(bytes, static_cast<uint16_t>(token));
  } else {
    append_little_endian(bytes, static_cast<uint32_t>(token));
  }
}

bool read_tokens(const InputFile& file, int64_t offset, TokenFormat format, std::span<int32_t> into) {
  return format.token_bytes == 2 ? read_as<uint16_t>(file, offset, format.vocabulary, into) : read_as<uint32_t>(file, offset, format.vocabulary, into);
}

TokenScan scan_tokens(const InputFile& file, int64_t begin, int64_t end, TokenFormat format, int32_t wanted) {
  std::string block(kBlock, '\0');
  DigestStream digest;
  TokenScan scan;
  for (int64_t offset = begin; offset < end; offset += kBlock) {
    const int64_t bytes = std::min(kBlock, end - offset);
    file.read(offset, block.data(), bytes);
    std::string_view rest(block.data(), static_cast<size_t>(bytes));
    digest.add(rest);
    while (!rest.empty()) {
      const int64_t token = format.token_bytes == 2 ? take_little_endian<uint16_t>(rest) : take_little_endian<uint32_t>(rest);
      scan.found += token == wanted;
      scan.outside += token >= format.vocabulary;
    }
  }
  scan.digest = digest.digest();
  return scan;
}

}  // namespace switchyard
