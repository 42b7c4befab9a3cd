#include "src/data/sentence_piece.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "src/base/error.h"
#include "src/data/little_endian.h"
#include "src/data/text_segments.h"

namespace switchyard {

namespace {

// The words that one encoder remembers.
constexpr size_t kMostRemembered = size_t{1} << 17;

// Protobuf's wire format, as much as a SentencePiece model needs. The library's own generated classes are not installed,
// and a model that we write ourselves cannot carry anything that the checks of our own file did not see.
class WireWriter {
 public:
  void number(uint32_t field, uint64_t value) {
    varint(uint64_t{field} << 3);
    varint(value);
  }
  void real(uint32_t field, float value) {
    varint((uint64_t{field} << 3) | 5);
    append_little_endian(bytes_, value);
  }
  void text(uint32_t field, std::string_view value) {
    varint((uint64_t{field} << 3) | 2);
    varint(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

// Types of pieces in sentencepiece_model.proto.
constexpr uint64_t kNormal = 1, kUnknown = 2, kByte = 6;

void add_piece(WireWriter& model, std::string_view text, float score, uint64_t type) {
  WireWriter piece;
  piece.text(1, text);
  piece.real(2, score);
  piece.number(3, type);
  model.text(1, piece.bytes());
}

std::string with_space_marks(std::string_view text) {
  std::string marked;
  for (const char c : text) {
    if (c == ' ') {
      marked += kSpaceMark;
    } else {
      marked += c;
    }
  }
  return marked;
}

// A ModelProto: field numbers of sentencepiece_model.proto, version 0.1.97.
std::string library_model(const std::vector<LearnedPiece>& learned) {
  WireWriter model;
  add_piece(model, "<unk>", 0, kUnknown);
  for (int byte = 0; byte < 256; ++byte) add_piece(model, fmt::format("<0x{:02X}>", byte), 0, kByte);
  for (const LearnedPiece& piece : learned) add_piece(model, with_space_marks(piece.text), piece.score, kNormal);

  WireWriter trainer;
  trainer.number(3, 1);   // model_type: unigram
  trainer.number(35, 1);  // byte_fallback
  trainer.number(40, 0);  // unk_id; bos_id, eos_id and pad_id are -1: none
  for (const uint32_t field : {41u, 42u, 43u}) trainer.number(field, ~uint64_t{0});
  model.text(2, trainer.bytes());

  WireWriter normalizer;
  normalizer.text(1, "identity");
  normalizer.number(3, 0);  // add_dummy_prefix
  normalizer.number(4, 0);  // remove_extra_whitespaces
  normalizer.number(5, 1);  // escape_whitespaces
  model.text(3, normalizer.bytes());
  return model.bytes();
}

bool well_formed(std::string_view text) {
  if (text.empty() || text.size() > 255 || first_invalid_byte(text) != text.size()) return false;
  if (text.find('\n') != text.npos || text.find('\0') != text.npos || text.find(kSpaceMark) != text.npos) return false;
  const bool only_spaces = text.find_first_not_of(' ') == text.npos;
  const bool name_of_library = text == "<unk>" || (text.size() == 6 && text.starts_with("<0x"));
  return (only_spaces || text.find(' ', 1) == text.npos) && !name_of_library;
}

void demand_well_formed(const std::vector<LearnedPiece>& learned) {
  std::unordered_set<std::string_view> seen;
  for (size_t i = 0; i < learned.size(); ++i) {
    if (well_formed(learned[i].text) && std::isfinite(learned[i].score) && seen.insert(learned[i].text).second) continue;
    throw Error(ExitCode::kData, fmt::format("learned piece {} of the tokenizer breaks the rules for pieces (src/data/README.md); tokenize again", i));
  }
}

class SentencePieceEncoder : public Encoder {
 public:
  explicit SentencePieceEncoder(const SentencePieceTokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void append(std::string_view text, std::vector<int32_t>& ids) override {
    demand_utf8(text);
    cut_segments(
        text, [&](int spaces) { ids.push_back(kFirstLineEnd + spaces); }, [&](uint8_t byte) { ids.push_back(kFirstByte + byte); },
        [&](std::string_view word) { append_word(word, ids); });
  }

 private:
  void append_word(std::string_view word, std::vector<int32_t>& ids) {
    key_.assign(word);
    const auto found = words_.find(key_);
    if (found != words_.end()) {
      ids.insert(ids.end(), found->second.begin(), found->second.end());
      return;
    }
    const size_t before = ids.size();
    tokenizer_.append_word(word, ids);
    if (words_.size() < kMostRemembered) words_.emplace(key_, std::vector<int32_t>(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end()));
  }

  const SentencePieceTokenizer& tokenizer_;
  std::unordered_map<std::string, std::vector<int32_t>> words_;  // looked up only, never walked
  std::string key_;
};

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(std::vector<LearnedPiece> learned)
    : learned_(std::move(learned)), processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  demand_well_formed(learned_);
  pieces_.emplace_back();
  for (int spaces = 0; spaces < kLineEndPieces; ++spaces) pieces_.push_back(std::string("\n").append(static_cast<size_t>(spaces), ' '));
  for (int byte = 0; byte < 256; ++byte) pieces_.emplace_back(1, static_cast<char>(byte));
  for (const LearnedPiece& piece : learned_) pieces_.push_back(piece.text);
  const auto status = processor_->LoadFromSerializedProto(library_model(learned_));
  if (!status.ok()) throw Error(ExitCode::kData, fmt::format("SentencePiece refuses the tokenizer's pieces ({}); tokenize again", status.ToString()));
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

std::unique_ptr<Encoder> SentencePieceTokenizer::encoder() const { return std::make_unique<SentencePieceEncoder>(*this); }

void SentencePieceTokenizer::append_word(std::string_view word, std::vector<int32_t>& ids) const {
  std::vector<int> found;
  const auto status = processor_->Encode(word, &found);
  if (!status.ok()) throw InternalError("SentencePiece cannot encode a word: " + status.ToString());
  for (const int id : found) {
    check(id > 0 && id + kLibraryOffset < vocabulary(), "SentencePieceTokenizer: a token outside the vocabulary");
    ids.push_back(id + kLibraryOffset);
  }
}

std::string SentencePieceTokenizer::name(int32_t id) const {
  const std::string& text = piece(id);
  if (id == 0) return "<end>";
  if (id < kFirstByte) return fmt::format("<line+{}>", id - kFirstLineEnd);
  if (id < kFirstLearned) return fmt::format("<0x{:02X}>", id - kFirstByte);
  return text;
}

// u32 pieces; for each: f32 score, u8 bytes, text.
std::string SentencePieceTokenizer::payload() const {
  std::string bytes;
  append_little_endian(bytes, static_cast<uint32_t>(learned_.size()));
  for (const LearnedPiece& piece : learned_) {
    append_little_endian(bytes, piece.score);
    append_little_endian(bytes, static_cast<uint8_t>(piece.text.size()));
    bytes += piece.text;
  }
  return bytes;
}

std::unique_ptr<SentencePieceTokenizer> SentencePieceTokenizer::from_payload(std::string_view payload) {
  constexpr size_t kHead = sizeof(float) + sizeof(uint8_t);  // of a piece
  const Error damaged(ExitCode::kData, "the tokenizer's list of pieces ends before its last piece, or after it; tokenize again");
  if (payload.size() < sizeof(uint32_t)) throw damaged;
  const uint32_t count = take_little_endian<uint32_t>(payload);
  if (count > kMostVocabulary || payload.size() / kHead < count) throw damaged;
  std::vector<LearnedPiece> learned(count);
  for (LearnedPiece& piece : learned) {
    if (payload.size() < kHead) throw damaged;
    piece.score = take_little_endian<float>(payload);
    const size_t bytes = take_little_endian<uint8_t>(payload);
    if (payload.size() < bytes) throw damaged;
    piece.text = payload.substr(0, bytes);
    payload.remove_prefix(bytes);
  }
  if (!payload.empty()) throw damaged;
  return std::make_unique<SentencePieceTokenizer>(std::move(learned));
}

}  // namespace switchyard
