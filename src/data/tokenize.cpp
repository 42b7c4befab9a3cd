#include "src/data/tokenize.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <vector>

#include "src/base/error.h"
#include "src/data/file.h"

namespace switchyard {

namespace {

namespace fs = std::filesystem;

constexpr size_t kBlockBytes = size_t{4} << 20;  // of text, encoded at once

double seconds_since(std::chrono::steady_clock::time_point begin) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }

// The folder under another name until everything in it is written.
class Stage {
 public:
  explicit Stage(const std::string& output) : output_(fs::path(output).lexically_normal()) {
    if (!output_.has_filename()) output_ = output_.parent_path();
    path_ = fmt::format("{}.partial-{}", output_.string(), ::getpid());
    std::error_code error;
    if (fs::exists(output_, error) && !(fs::is_directory(output_, error) && fs::is_empty(output_, error))) {
      throw Error(ExitCode::kUsage, fmt::format("{} already holds something; name another folder or remove it first", output_.string()));
    }
    fs::create_directories(path_, error);
    if (error) throw Error(ExitCode::kInputOutput, fmt::format("cannot create folder {}: {}", path_.string(), error.message()));
  }
  ~Stage() {
    std::error_code ignored;
    if (!committed_) fs::remove_all(path_, ignored);
  }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  std::string file(const char* name) const { return (path_ / name).string(); }
  void commit() {
    sync_folder(path_.string());
    std::error_code error;
    fs::rename(path_, output_, error);
    if (error) throw Error(ExitCode::kInputOutput, fmt::format("cannot rename {} to {}: {}", path_.string(), output_.string(), error.message()));
    committed_ = true;
    sync_folder(output_.parent_path().string());
  }

 private:
  fs::path output_, path_;
  bool committed_ = false;
};

TokenFileInfo info_for(const char* split, const Tokenizer& tokenizer) {
  TokenFileInfo info;
  info.split = split;
  info.tokenizer = tokenizer.digest();
  info.vocabulary = tokenizer.vocabulary();
  info.end_of_document = tokenizer.end_of_document();
  return info;
}

// Encodes documents in blocks, each thread a run of them, and writes them in order.
class Splits {
 public:
  Splits(const Stage& stage, const Tokenizer& tokenizer, const TokenizeOptions& options)
      : options_(options),
        separator_(separator(options.corpus.documents)),
        train_(stage.file("train.tokens"), info_for("train", tokenizer)),
        heldout_(stage.file("heldout.tokens"), info_for("heldout", tokenizer)),
        heldout_text_(stage.file("heldout.txt")) {
    for (int thread = 0; thread < options.threads; ++thread) encoders_.push_back(tokenizer.encoder());
  }

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
  // Documents begin .. end - 1, one run for each thread, of about equal bytes.
  size_t end_of_run(size_t begin, size_t wanted) const {
    size_t end = begin;
    for (size_t bytes = 0; end < documents_.size() && bytes < wanted; ++end) bytes += documents_[end].size();
    return end;
  }

  void write_block() {
    encoded_.assign(documents_.size(), {});
    std::vector<std::future<void>> runs;
    size_t begin = 0;
    for (size_t thread = 0; thread < encoders_.size(); ++thread) {
      const bool last = thread + 1 == encoders_.size();
      const size_t end = last ? documents_.size() : end_of_run(begin, bytes_ / encoders_.size() + 1);
      runs.push_back(std::async(std::launch::async, [this, thread, begin, end] {
        for (size_t i = begin; i < end; ++i) encoders_[thread]->append(documents_[i], encoded_[i]);
      }));
      begin = end;
    }
    for (std::future<void>& run : runs) run.wait();
    for (std::future<void>& run : runs) run.get();
    for (size_t i = 0; i < documents_.size(); ++i) write(documents_[i], encoded_[i]);
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
  std::vector<std::unique_ptr<Encoder>> encoders_;  // by thread
  std::vector<std::string> documents_;              // of the block
  std::vector<std::vector<int32_t>> encoded_;
  size_t bytes_ = 0;
};

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizeOptions& options) {
  if (!options.tokenizer.empty()) return load_tokenizer(options.tokenizer);
  if (options.kind == TokenizerKind::kBytes) return make_bytes_tokenizer();
  const auto training_documents = [&](const std::function<void(std::string_view)>& visit) {
    read_documents(options.corpus, [&](std::string_view document) {
      if (!held_out(document, options.one_in)) visit(document);
    });
  };
  return train_sentencepiece(training_documents, options.vocabulary);
}

}  // namespace

TokenizeReport tokenize(const TokenizeOptions& options) {
  if (options.output.empty()) throw Error(ExitCode::kUsage, "no output folder was named; name one that is absent or empty");
  if (options.threads < 1 || options.threads > 1024) throw Error(ExitCode::kUsage, fmt::format("threads is {} but must be from 1 to 1024", options.threads));
  if (options.one_in < 0) throw Error(ExitCode::kUsage, fmt::format("one document in {} cannot be held out; use 0 for none", options.one_in));

  TokenizeReport report;
  Stage stage(options.output);
  auto begin = std::chrono::steady_clock::now();
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(options);
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
  Dataset dataset;
  dataset.tokenizer = load_tokenizer((path / "tokenizer").string());
  dataset.train = open_token_file((path / "train.tokens").string());
  dataset.heldout = open_token_file((path / "heldout.tokens").string());
  for (const TokenFile* file : {dataset.train.get(), dataset.heldout.get()}) file->demand_tokenizer(dataset.tokenizer->digest());
  return dataset;
}

}  // namespace switchyard
