#include "src/data/tokenizer.h"

#include <fmt/format.h>

#include "src/base/error.h"
#include "src/data/utf8.h"

namespace switchyard {

namespace {

constexpr int32_t kBytesEnd = 256;

class BytesEncoder : public Encoder {
 public:
  void append(std::string_view text, std::vector<int32_t>& ids) override {
    demand_utf8(text);
    for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
  }
};

class BytesTokenizer : public Tokenizer {
 public:
  BytesTokenizer() {
    for (int byte = 0; byte < 256; ++byte) pieces_.emplace_back(1, static_cast<char>(byte));
    pieces_.emplace_back();
  }
  TokenizerKind kind() const override { return TokenizerKind::kBytes; }
  std::unique_ptr<Encoder> encoder() const override { return std::make_unique<BytesEncoder>(); }
  std::string name(int32_t id) const override {
    if (id == kBytesEnd) return "<end>";
    const char byte = piece(id)[0];
    return byte > ' ' && byte < 0x7F ? std::string(1, byte) : fmt::format("<0x{:02X}>", static_cast<uint8_t>(byte));
  }
  int32_t end_of_document() const override { return kBytesEnd; }
  std::string payload() const override { return {}; }
};

}  // namespace

void demand_utf8(std::string_view text) {
  const size_t invalid = first_invalid_byte(text);
  if (invalid == text.size()) return;
  throw Error(ExitCode::kData,
              fmt::format("text to encode is not UTF-8 at byte {} (0x{:02x}); convert it", invalid, static_cast<unsigned char>(text[invalid])));
}

const std::string& Tokenizer::piece(int32_t id) const {
  if (id < 0 || id >= vocabulary()) {
    throw Error(ExitCode::kData,
                fmt::format("token {} is outside the tokenizer's vocabulary of {}; use the tokenizer that the tokens were made with", id, vocabulary()));
  }
  return pieces_[static_cast<size_t>(id)];
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  encoder()->append(text, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += piece(id);
  return text;
}

Digest Tokenizer::digest() const { return digest_of(fmt::format("{}:{}", static_cast<uint32_t>(kind()), payload())); }

std::unique_ptr<Tokenizer> make_bytes_tokenizer() { return std::make_unique<BytesTokenizer>(); }

}  // namespace switchyard
