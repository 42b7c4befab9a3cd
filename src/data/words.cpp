#include "src/data/words.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "src/base/error.h"
#include "src/data/little_endian.h"
#include "src/data/sentence_piece.h"
#include "src/data/utf8.h"

namespace switchyard {

namespace {

constexpr size_t kMostCountedWords = 20'000'000;
constexpr const char* kUnknownName = "[UNK]";

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_punctuation(char c) { return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~'); }

// Capital letters first, first + stride, ... last, of two bytes in UTF-8, and how far their lower case is.
struct Capitals {
  uint32_t first, last, stride, distance;
};
constexpr std::array kCapitals = {
    Capitals{0x00C0, 0x00D6, 1, 32}, Capitals{0x00D8, 0x00DE, 1, 32},                                  // Latin-1
    Capitals{0x0100, 0x012E, 2, 1},  Capitals{0x0132, 0x0136, 2, 1},  Capitals{0x0139, 0x0147, 2, 1},  // Latin Extended-A
    Capitals{0x014A, 0x0176, 2, 1},  Capitals{0x0179, 0x017D, 2, 1},                                   //
    Capitals{0x0391, 0x03A1, 1, 32}, Capitals{0x03A3, 0x03AB, 1, 32},                                  // Greek
    Capitals{0x0400, 0x040F, 1, 80}, Capitals{0x0410, 0x042F, 1, 32},                                  // Cyrillic
};
constexpr uint32_t kCapitalIWithDot = 0x0130, kCapitalYWithDiaeresis = 0x0178, kSmallYWithDiaeresis = 0x00FF;

uint32_t lower(uint32_t code) {
  if (code == kCapitalYWithDiaeresis) return kSmallYWithDiaeresis;
  for (const Capitals& range : kCapitals) {
    if (code >= range.first && code <= range.last && (code - range.first) % range.stride == 0) return code + range.distance;
  }
  return code;
}

// Calls on_word for each run of characters that are no white space.
template <class OnWord>
void cut_words(std::string_view standard, OnWord on_word) {
  size_t begin = 0;
  for (size_t i = 0; i <= standard.size(); ++i) {
    if (i < standard.size() && !is_space(standard[i])) continue;
    if (i > begin) on_word(standard.substr(begin, i - begin));
    begin = i + 1;
  }
}

class WordsEncoder : public Encoder {
 public:
  explicit WordsEncoder(const WordsTokenizer& tokenizer) : tokenizer_(tokenizer) {}
  void append(std::string_view text, std::vector<int32_t>& ids) override {
    demand_utf8(text);
    tokenizer_.append_words(standardized(text), ids);
  }

 private:
  const WordsTokenizer& tokenizer_;
};

bool well_formed(const std::string& word) {
  if (word.empty() || word.size() > kMostWordLength || first_invalid_byte(word) != word.size()) return false;
  return std::none_of(word.begin(), word.end(), is_space) && standardized(word) == word;
}

}  // namespace

std::string standardized(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const uint8_t byte = static_cast<uint8_t>(c);
    if (byte < 0x80) {
      if (!is_punctuation(c)) result += c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    } else if (byte >= 0xC2 && byte <= 0xDF && i + 1 < text.size()) {  // two bytes, which is where the capitals are
      const uint32_t code = ((byte & 0x1Fu) << 6) | (static_cast<uint8_t>(text[++i]) & 0x3Fu);
      if (code == kCapitalIWithDot) {
        result += 'i';
        continue;
      }
      const uint32_t small = lower(code);
      result += static_cast<char>(0xC0 | (small >> 6));
      result += static_cast<char>(0x80 | (small & 0x3F));
    } else {
      result += c;
    }
  }
  return result;
}

WordsTokenizer::WordsTokenizer(std::vector<std::string> words) {
  pieces_.reserve(words.size() + kFirstWord);
  pieces_.emplace_back();
  pieces_.emplace_back(kUnknownName);
  for (std::string& word : words) {
    if (!well_formed(word)) {
      throw Error(ExitCode::kData, fmt::format("word {} of the tokenizer breaks the rules for words (src/data/README.md); tokenize again", pieces_.size()));
    }
    pieces_.push_back(std::move(word));
  }
  for (size_t id = kFirstWord; id < pieces_.size(); ++id) {
    if (numbers_.emplace(pieces_[id], static_cast<int32_t>(id)).second) continue;
    throw Error(ExitCode::kData, fmt::format("words {} and {} of the tokenizer are the same; tokenize again", numbers_[pieces_[id]], id));
  }
}

std::unique_ptr<Encoder> WordsTokenizer::encoder() const { return std::make_unique<WordsEncoder>(*this); }

void WordsTokenizer::append_words(std::string_view standard, std::vector<int32_t>& ids) const {
  cut_words(standard, [&](std::string_view word) {
    const auto found = numbers_.find(word);
    ids.push_back(found == numbers_.end() ? kUnknownWord : found->second);
  });
}

std::string WordsTokenizer::name(int32_t id) const { return id == end_of_document() ? "<pad>" : piece(id); }

std::string WordsTokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    if (id == end_of_document()) continue;
    if (!text.empty()) text += ' ';
    text += piece(id);
  }
  return text;
}

// u32 words; for each: u8 bytes, text.
std::string WordsTokenizer::payload() const {
  std::string bytes;
  append_little_endian(bytes, static_cast<uint32_t>(pieces_.size() - kFirstWord));
  for (size_t id = kFirstWord; id < pieces_.size(); ++id) {
    append_little_endian(bytes, static_cast<uint8_t>(pieces_[id].size()));
    bytes += pieces_[id];
  }
  return bytes;
}

std::unique_ptr<WordsTokenizer> WordsTokenizer::from_payload(std::string_view payload) {
  const Error damaged(ExitCode::kData, "the tokenizer's list of words ends before its last word, or after it; tokenize again");
  if (payload.size() < sizeof(uint32_t)) throw damaged;
  const uint32_t count = take_little_endian<uint32_t>(payload);
  if (count > kMostVocabulary || payload.size() < count) throw damaged;
  std::vector<std::string> words(count);
  for (std::string& word : words) {
    if (payload.empty()) throw damaged;
    const size_t bytes = take_little_endian<uint8_t>(payload);
    if (payload.size() < bytes) throw damaged;
    word = payload.substr(0, bytes);
    payload.remove_prefix(bytes);
  }
  if (!payload.empty()) throw damaged;
  return std::make_unique<WordsTokenizer>(std::move(words));
}

std::unique_ptr<Tokenizer> train_words(const DocumentSource& documents, int64_t vocabulary) {
  constexpr int64_t kLeastVocabulary = kFirstWord + 1;
  if (vocabulary < kLeastVocabulary || vocabulary > kMostVocabulary) {
    throw Error(ExitCode::kUsage, fmt::format("vocabulary is {} but must be from {} to {}, of which padding and unknown words take 2", vocabulary,
                                              kLeastVocabulary, kMostVocabulary));
  }
  std::unordered_map<std::string, int64_t> counts;
  std::string key;
  documents([&](std::string_view document) {
    demand_utf8(document);
    cut_words(standardized(document), [&](std::string_view word) {
      if (word.size() > kMostWordLength) return;
      key = word;
      ++counts[key];
    });
    if (counts.size() > kMostCountedWords) {
      throw Error(ExitCode::kData, fmt::format("the texts hold more than {} different words; is this text? Use sentencepiece or bytes", kMostCountedWords));
    }
  });
  if (counts.empty()) throw Error(ExitCode::kData, "there is no word to make a vocabulary of; give more text, or use the bytes tokenizer");

  std::vector<std::pair<int64_t, std::string>> sorted;  // its order does not depend on the map's
  for (const auto& [word, count] : counts) sorted.emplace_back(-count, word);
  std::sort(sorted.begin(), sorted.end());
  sorted.resize(std::min(sorted.size(), static_cast<size_t>(vocabulary - kFirstWord)));
  std::vector<std::string> words;
  for (auto& [count, word] : sorted) words.push_back(std::move(word));
  return std::make_unique<WordsTokenizer>(std::move(words));
}

}  // namespace switchyard
