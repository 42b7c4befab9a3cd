#include "src/data/tokenize.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <vector>

#include "src/base/error.h"
#include "src/data/file.h"
#include "src/data/output_folder.h"
#include "src/data/parallel_encoder.h"

namespace switchyard {

namespace {

namespace fs = std::filesystem;

constexpr size_t kBlockBytes = size_t{4} << 20;  // of text, encoded at once

double seconds_since(std::chrono::steady_clock::time_point begin) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }

TokenFileInfo info_for(const char* split, const Tokenizer& tokenizer) {
  TokenFileInfo info;
  info.split = split;
  info.tokenizer = tokenizer.digest();
  info.vocabulary = tokenizer.vocabulary();
  info.end_of_document = tokenizer.end_of_document();
  return info;
}

// Encodes documents in blocks and writes them in order.
class Splits {
 public:
  Splits(const OutputFolder& stage, const Tokenizer& tokenizer, const TokenizeOptions& options)
      : options_(options),
        separator_(separator(options.corpus.documents)),
        train_(stage.file("train.tokens"), info_for("train", tokenizer)),
        heldout_(stage.file("heldout.tokens"), info_for("heldout", tokenizer)),
        heldout_text_(stage.file("heldout.txt")),
        encoder_(tokenizer, options.threads) {}

  void add(std::string_view document) {
    documents_.emplace_back(document);
    bytes_ += document.size();
    if (bytes_ >= kBlockBytes) write_block();
  }

  void finish(TokenizeReport& report) {
    write_block();
    report.train = train_.finish();
    report.heldout = heldout_.finish();
    heldout_text_.commit();
  }

 private:
  void write_block() {
    const std::vector<std::vector<int32_t>>& encoded = encoder_.encode(documents_);
    for (size_t i = 0; i < documents_.size(); ++i) write(documents_[i], encoded[i]);
    documents_.clear();
    bytes_ = 0;
  }

  void write(const std::string& document, const std::vector<int32_t>& tokens) {
    const int64_t bytes = static_cast<int64_t>(document.size() + separator_.size());
    if (!held_out(document, options_.one_in)) return train_.add_document(tokens, bytes);
    heldout_.add_document(tokens, bytes);
    heldout_text_.append(document);
    heldout_text_.append(separator_);
  }

  const TokenizeOptions& options_;
  std::string_view separator_;
  TokenFileWriter train_, heldout_;
  OutputFile heldout_text_;
  ParallelEncoder encoder_;
  std::vector<std::string> documents_;  // of the block
  size_t bytes_ = 0;
};

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizeOptions& options) {
  if (!options.tokenizer.empty()) return load_tokenizer(options.tokenizer);
  if (options.kind == TokenizerKind::kBytes) return make_bytes_tokenizer();
  check(options.kind == TokenizerKind::kSentencePiece, "tokenize: words are made from labelled texts only");
  const auto training_documents = [&](const std::function<void(std::string_view)>& visit) {
    read_documents(options.corpus, [&](std::string_view document) {
      if (!held_out(document, options.one_in)) visit(document);
    });
  };
  return train_sentencepiece(training_documents, options.vocabulary);
}

}  // namespace

TokenizeReport tokenize(const TokenizeOptions& options) {
  demand_threads(options.threads);
  if (options.one_in < 0) throw Error(ExitCode::kUsage, fmt::format("one document in {} cannot be held out; use 0 for none", options.one_in));

  TokenizeReport report;
  OutputFolder stage(options.output);
  auto begin = std::chrono::steady_clock::now();
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(options);
  if (tokenizer->kind() == TokenizerKind::kWords) {
    throw Error(ExitCode::kUsage, "words do not give a text back as it was, which a language model's corpus needs; use sentencepiece or bytes");
  }
  report.tokenizer = tokenizer->digest();
  report.tokenizer_seconds = seconds_since(begin);

  begin = std::chrono::steady_clock::now();
  Splits splits(stage, *tokenizer, options);
  report.corpus = read_documents(options.corpus, [&](std::string_view document) { splits.add(document); });
  splits.finish(report);
  report.encode_seconds = seconds_since(begin);
  if (report.train.documents == 0) {
    throw Error(ExitCode::kData,
                fmt::format("all {} documents are held out and none is left to train on; use more documents, or hold out fewer", report.corpus.documents));
  }
  save_tokenizer(*tokenizer, stage.file("tokenizer"));
  stage.commit();
  return report;
}

Dataset open_dataset(const std::string& folder) {
  const fs::path path(folder);
  if (fs::exists(path / "train.examples")) {
    throw Error(ExitCode::kData,
                fmt::format("{} holds labelled texts, which a classifier learns from; a language model needs a folder that switchyard tokenize "
                            "made without --labelled",
                            folder));
  }
  Dataset dataset;
  dataset.tokenizer = load_tokenizer((path / "tokenizer").string());
  dataset.train = open_token_file((path / "train.tokens").string());
  dataset.heldout = open_token_file((path / "heldout.tokens").string());
  for (const TokenFile* file : {dataset.train.get(), dataset.heldout.get()}) file->demand_tokenizer(dataset.tokenizer->digest());
  return dataset;
}

}  // namespace switchyard
