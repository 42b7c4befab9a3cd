#include <fmt/format.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <unordered_map>

#include "kernels/rng.h"
#include "src/base/error.h"
#include "src/data/sentence_piece.h"
#include "src/data/text_segments.h"

namespace switchyard {

namespace {

// The library leaves out sentences above 4192 bytes (its max_sentence_length).
constexpr size_t kMostSentenceBytes = 4096;
constexpr int64_t kLeastVocabulary = 384;
constexpr uint64_t kSampleSeed = 0x73616d706c65;
// Sums over sentences are grouped by thread in the library, so the number of threads is part of the result.
constexpr const char* kThreads = "2";

// A sample of `size` sentences of a stream, every one equally likely to stay (Vitter's algorithm R), as a pure function of
// the sentences' numbers.
class Sample {
 public:
  explicit Sample(int64_t size) : size_(static_cast<uint64_t>(size)) {}

  void add(std::string&& sentence) {
    // What reads like a name of one of the library's own pieces could become a piece of that name.
    if (sentence.find("<unk>") != std::string::npos || sentence.find("<0x") != std::string::npos) return;
    const uint64_t number = seen_++;
    if (sentences_.size() < size_) {
      sentences_.push_back(std::move(sentence));
      return;
    }
    const uint64_t place = mix64(kSampleSeed ^ mix64(number)) % seen_;
    if (place < size_) sentences_[place] = std::move(sentence);
  }
  const std::vector<std::string>& sentences() const { return sentences_; }

 private:
  uint64_t size_, seen_ = 0;
  std::vector<std::string> sentences_;
};

// A document's lines, as the encoder will give their words to the library.
void add_document(std::string_view document, Sample& sample) {
  std::string sentence;
  const auto flush = [&] {
    if (sentence.find_first_not_of(' ') != std::string::npos) sample.add(std::move(sentence));
    sentence.clear();
  };
  cut_segments(
      document, [&](int) { flush(); }, [&](uint8_t) { flush(); },
      [&](std::string_view word) {
        if (sentence.size() + word.size() > kMostSentenceBytes) flush();
        sentence += word;
      });
  flush();
}

class SampleIterator : public sentencepiece::SentenceIterator {
 public:
  explicit SampleIterator(const std::vector<std::string>& sentences) : sentences_(sentences) {}
  bool done() const override { return at_ == sentences_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return sentences_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& sentences_;
  size_t at_ = 0;
};

std::unordered_map<std::string, std::string> trainer_options(int64_t vocabulary) {
  return {{"model_type", "unigram"},
          {"vocab_size", fmt::format("{}", vocabulary - kLibraryOffset)},
          {"character_coverage", "0.9995"},
          {"byte_fallback", "true"},
          {"unk_id", "0"},
          {"bos_id", "-1"},
          {"eos_id", "-1"},
          {"pad_id", "-1"},
          {"normalization_rule_name", "identity"},
          {"add_dummy_prefix", "false"},
          {"remove_extra_whitespaces", "false"},
          {"allow_whitespace_only_pieces", "true"},
          {"split_by_unicode_script", "false"},  // " word," and "]" after a word may be pieces: a seventh fewer tokens in gcide
          {"shuffle_input_sentence", "false"},
          {"hard_vocab_limit", "false"},  // a smaller one is found out below, with a better sentence
          {"num_threads", kThreads},
          {"minloglevel", "2"}};
}

std::string with_spaces(std::string_view marked) {
  std::string text;
  while (!marked.empty()) {
    const bool mark = marked.starts_with(kSpaceMark);
    text += mark ? ' ' : marked[0];
    marked.remove_prefix(mark ? kSpaceMark.size() : 1);
  }
  return text;
}

std::vector<LearnedPiece> learn_pieces(const std::vector<std::string>& sentences, int64_t vocabulary) {
  SampleIterator iterator(sentences);
  std::string model;
  auto status = sentencepiece::SentencePieceTrainer::Train(trainer_options(vocabulary), &iterator, &model);
  sentencepiece::SentencePieceProcessor trained;
  if (status.ok()) status = trained.LoadFromSerializedProto(model);
  if (!status.ok()) {
    throw Error(ExitCode::kData, fmt::format("SentencePiece cannot make a vocabulary of {} from {} lines of text ({}); use another vocabulary or other text",
                                             vocabulary, sentences.size(), status.ToString()));
  }
  std::vector<LearnedPiece> learned;
  for (int id = 0; id < trained.GetPieceSize(); ++id) {
    if (!trained.IsUnknown(id) && !trained.IsByte(id)) learned.push_back({with_spaces(trained.IdToPiece(id)), trained.GetScore(id)});
  }
  return learned;
}

}  // namespace

std::unique_ptr<Tokenizer> train_sentencepiece(const DocumentSource& documents, int64_t vocabulary, int64_t sentences) {
  if (vocabulary < kLeastVocabulary || vocabulary > kMostVocabulary) {
    throw Error(ExitCode::kUsage,
                fmt::format("vocabulary is {} but must be from {} to {}, of which {} are fixed", vocabulary, kLeastVocabulary, kMostVocabulary, kFirstLearned));
  }
  check(sentences > 0, "train_sentencepiece: an empty sample");
  Sample sample(sentences);
  documents([&](std::string_view document) { add_document(document, sample); });
  if (sample.sentences().empty()) throw Error(ExitCode::kData, "there is no text to train a tokenizer on; give more text, or use the bytes tokenizer");

  std::vector<LearnedPiece> learned = learn_pieces(sample.sentences(), vocabulary);
  const int64_t found = kFirstLearned + static_cast<int64_t>(learned.size());
  if (found < vocabulary) {
    throw Error(ExitCode::kData, fmt::format("{} lines of text give a vocabulary of {} at most, not of {}; use a smaller vocabulary or more text",
                                             sample.sentences().size(), found, vocabulary));
  }
  return std::make_unique<SentencePieceTokenizer>(std::move(learned));
}

}  // namespace switchyard
