// The tokenizer file. README.md has its format.
#include <fmt/format.h>

#include <cstring>

#include "src/base/error.h"
#include "src/data/file.h"
#include "src/data/little_endian.h"
#include "src/data/sentence_piece.h"
#include "src/data/tokenizer.h"
#include "src/data/words.h"

namespace switchyard {

namespace {

constexpr std::string_view kMagic = "SWYTOKNZ";
constexpr uint32_t kVersion = 1;
constexpr int64_t kHeaderBytes = 8 + 4 + 4 + 8 + 16;
constexpr int64_t kMostPayload = int64_t{256} << 20;

Error bad(const std::string& path, const std::string& what) {
  return Error(ExitCode::kData, fmt::format("{} is not a usable tokenizer: {}; tokenize again", path, what));
}

}  // namespace

void save_tokenizer(const Tokenizer& tokenizer, const std::string& path) {
  const std::string payload = tokenizer.payload();
  std::string header(kMagic);
  append_little_endian(header, kVersion);
  append_little_endian(header, static_cast<uint32_t>(tokenizer.kind()));
  append_little_endian(header, static_cast<uint64_t>(payload.size()));
  const Digest digest = digest_of(header + payload);
  header.append(reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size());
  OutputFile file(path);
  file.append(header);
  file.append(payload);
  file.commit();
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  const InputFile file(path, "tokenizer");
  if (file.size() < kHeaderBytes) throw bad(path, fmt::format("it has {} bytes, and its header alone {}", file.size(), kHeaderBytes));
  if (file.size() > kHeaderBytes + kMostPayload)
    throw bad(path, fmt::format("it has {} bytes, more than the {} of the largest", file.size(), kHeaderBytes + kMostPayload));
  std::string bytes(static_cast<size_t>(file.size()), '\0');
  file.read(0, bytes.data(), file.size());

  std::string_view rest = bytes;
  if (!rest.starts_with(kMagic)) throw bad(path, "it does not begin with SWYTOKNZ");
  rest.remove_prefix(kMagic.size());
  const uint32_t version = take_little_endian<uint32_t>(rest);
  if (version != kVersion) throw bad(path, fmt::format("it has version {}, and this program reads version {}", version, kVersion));
  const uint32_t kind = take_little_endian<uint32_t>(rest);
  const uint64_t size = take_little_endian<uint64_t>(rest);
  Digest digest;
  std::memcpy(digest.bytes.data(), rest.data(), digest.bytes.size());
  rest.remove_prefix(digest.bytes.size());
  if (size != rest.size()) throw bad(path, fmt::format("{} bytes should follow its header, and {} do", size, rest.size()));
  bytes.erase(kHeaderBytes - static_cast<int64_t>(digest.bytes.size()), digest.bytes.size());
  if (digest_of(bytes) != digest) throw bad(path, "its checksum does not fit its content");

  const std::string_view payload = std::string_view(bytes).substr(bytes.size() - size);
  if (kind == static_cast<uint32_t>(TokenizerKind::kSentencePiece)) return SentencePieceTokenizer::from_payload(payload);
  if (kind == static_cast<uint32_t>(TokenizerKind::kWords)) return WordsTokenizer::from_payload(payload);
  if (kind == static_cast<uint32_t>(TokenizerKind::kBytes) && size == 0) return make_bytes_tokenizer();
  throw bad(path, fmt::format("kind {} with {} bytes is unknown", kind, size));
}

}  // namespace switchyard
