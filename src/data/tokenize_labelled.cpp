#include "src/data/tokenize_labelled.h"

#include <fmt/format.h>

#include <chrono>
#include <map>

#include "src/base/error.h"
#include "src/data/output_folder.h"
#include "src/data/parallel_encoder.h"

namespace switchyard {

namespace {

constexpr size_t kBlockBytes = size_t{4} << 20;  // of text, encoded at once
constexpr size_t kBlockTexts = 65536;

double seconds_since(std::chrono::steady_clock::time_point begin) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }

// The examples of both parts, in order.
class Source {
 public:
  using Visit = std::function<void(const LabelledExample&, bool held_out)>;

  explicit Source(const LabelledTokenizeOptions& options) : train_(options.source), heldout_(options.source), one_in_(options.one_in) {
    heldout_.paths = options.heldout;
    if (heldout_.paths.empty() && train_.paths.size() == 1) {
      if (const auto folders = train_and_test_folders(train_.paths[0])) {
        train_.paths = {folders->first};
        heldout_.paths = {folders->second};
      }
    }
    if (!heldout_.paths.empty()) one_in_ = 0;
  }

  void read_train(const Visit& visit) {
    counts_ = read_labelled(train_, [&](const LabelledExample& example) { visit(example, held_out(example.text, one_in_)); });
  }
  void read(const Visit& visit) {
    read_train(visit);
    if (heldout_.paths.empty()) return;
    const LabelledCounts counts = read_labelled(heldout_, [&](const LabelledExample& example) { visit(example, true); });
    counts_.examples += counts.examples;
    counts_.bytes += counts.bytes;
    counts_.replaced_bytes += counts.replaced_bytes;
    counts_.left_out_unsup = counts_.left_out_unsup || counts.left_out_unsup;
  }
  const LabelledCounts& counts() const { return counts_; }  // of the last reading

 private:
  LabelledOptions train_, heldout_;
  int64_t one_in_;
  LabelledCounts counts_;
};

// The texts of the training examples, for a tokenizer to learn from, whose labels are counted on the way.
class TrainingTexts {
 public:
  explicit TrainingTexts(Source& source) : source_(source) {}

  void read(const std::function<void(std::string_view)>& visit) {
    source_.read_train([&](const LabelledExample& example, bool held_out) {
      if (held_out) return;
      ++counts_[std::string(example.label)];
      if (counts_.size() > static_cast<size_t>(kMostLabels)) {
        throw Error(ExitCode::kData,
                    fmt::format("{}: there are more than {} different labels; is the column of the labels the right one?", example.place(), kMostLabels));
      }
      visit(example.text);
    });
    if (counts_.empty()) {
      throw Error(ExitCode::kData,
                  fmt::format("all {} examples are held out and none is left to train on; use more examples, or hold out fewer", source_.counts().examples));
    }
    labels();  // one label only is found out before a tokenizer is made
  }
  Labels labels() const {
    std::vector<Label> labels;
    for (const auto& [name, count] : counts_) labels.push_back({name, count, 0});
    return Labels(std::move(labels));
  }

 private:
  Source& source_;
  std::map<std::string, int64_t> counts_;
};

std::unique_ptr<Tokenizer> make_tokenizer(TrainingTexts& texts, const LabelledTokenizeOptions& options) {
  const DocumentSource documents = [&](const std::function<void(std::string_view)>& visit) { texts.read(visit); };
  if (options.tokenizer.empty() && options.kind == TokenizerKind::kWords) return train_words(documents, options.vocabulary);
  if (options.tokenizer.empty() && options.kind == TokenizerKind::kSentencePiece) return train_sentencepiece(documents, options.vocabulary);
  texts.read([](std::string_view) {});
  return options.tokenizer.empty() ? make_bytes_tokenizer() : load_tokenizer(options.tokenizer);
}

// Encodes examples in blocks and writes them in order.
class Splits {
 public:
  Splits(const OutputFolder& folder, const Tokenizer& tokenizer, const Labels& labels, int threads)
      : labels_(labels),
        train_(folder.file("train.examples"), info_for("train", tokenizer, labels)),
        heldout_(folder.file("heldout.examples"), info_for("heldout", tokenizer, labels)),
        encoder_(tokenizer, threads),
        heldout_counts_(static_cast<size_t>(labels.classes())) {}

  void add(const LabelledExample& example, bool held_out) {
    const std::optional<int32_t> label = labels_.find(example.label);
    if (!label) {
      throw Error(ExitCode::kData, fmt::format("{}: the label \"{}\" of a held-out example has no example to train on; add some, hold out other examples, or "
                                               "remove it",
                                               example.place(), example.label));
    }
    texts_.emplace_back(example.text);
    targets_.push_back({*label, held_out});
    bytes_ += example.text.size();
    if (bytes_ >= kBlockBytes || texts_.size() >= kBlockTexts) write_block();
  }

  void finish(LabelledTokenizeReport& report) {
    write_block();
    report.train = train_.finish();
    report.heldout = heldout_.finish();
    report.texts_without_token = without_token_;
    std::vector<Label> labels;
    for (int32_t i = 0; i < labels_.classes(); ++i) labels.push_back({labels_.name(i), labels_[i].train, heldout_counts_[static_cast<size_t>(i)]});
    report.labels = Labels(std::move(labels));
  }

 private:
  struct Target {
    int32_t label;
    bool held_out;
  };

  static ExampleFileInfo info_for(const char* split, const Tokenizer& tokenizer, const Labels& labels) {
    ExampleFileInfo info;
    info.split = split;
    info.tokenizer = tokenizer.digest();
    info.labels = labels.digest();
    info.vocabulary = tokenizer.vocabulary();
    info.classes = labels.classes();
    return info;
  }

  void write_block() {
    const std::vector<std::vector<int32_t>>& encoded = encoder_.encode(texts_);
    for (size_t i = 0; i < texts_.size(); ++i) {
      const Target& target = targets_[i];
      (target.held_out ? heldout_ : train_).add(target.label, encoded[i], static_cast<int64_t>(texts_[i].size()));
      heldout_counts_[static_cast<size_t>(target.label)] += target.held_out;
      without_token_ += encoded[i].empty();
    }
    texts_.clear();
    targets_.clear();
    bytes_ = 0;
  }

  const Labels& labels_;
  ExampleFileWriter train_, heldout_;
  ParallelEncoder encoder_;
  std::vector<int64_t> heldout_counts_;  // by class
  std::vector<std::string> texts_;       // of the block
  std::vector<Target> targets_;
  size_t bytes_ = 0;
  int64_t without_token_ = 0;
};

}  // namespace

LabelledTokenizeReport tokenize_labelled_into(const OutputFolder& folder, const LabelledTokenizeOptions& options) {
  LabelledTokenizeReport report;
  auto begin = std::chrono::steady_clock::now();
  Source source(options);
  TrainingTexts texts(source);
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(texts, options);
  const Labels labels = texts.labels();
  report.tokenizer = tokenizer->digest();
  report.tokenizer_seconds = seconds_since(begin);

  begin = std::chrono::steady_clock::now();
  Splits splits(folder, *tokenizer, labels, options.threads);
  source.read([&](const LabelledExample& example, bool held_out) { splits.add(example, held_out); });
  splits.finish(report);
  report.source = source.counts();
  save_tokenizer(*tokenizer, folder.file("tokenizer"));
  save_labels(report.labels, folder.file("labels"));
  report.encode_seconds = seconds_since(begin);
  return report;
}

LabelledTokenizeReport tokenize_labelled(const LabelledTokenizeOptions& options) {
  demand_threads(options.threads);
  if (options.one_in < 0) throw Error(ExitCode::kUsage, fmt::format("one example in {} cannot be held out; use 0 for none", options.one_in));
  OutputFolder folder(options.output);
  LabelledTokenizeReport report = tokenize_labelled_into(folder, options);
  folder.commit();
  return report;
}

}  // namespace switchyard
