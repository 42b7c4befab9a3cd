#include "src/cli/labelled_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

constexpr int32_t kMostShown = 20;  // labels

nlohmann::ordered_json split_json(const ExampleFileInfo& info) { return {{"examples", info.examples}, {"tokens", info.tokens}, {"bytes", info.source_bytes}}; }

void print_json(const LabelledTokenizeReport& report, const std::string& output) {
  nlohmann::ordered_json labels = nlohmann::ordered_json::array();
  for (int32_t i = 0; i < report.labels.classes(); ++i) {
    const Label& label = report.labels[i];
    labels.push_back({{"name", label.name}, {"train", label.train}, {"heldout", label.heldout}});
  }
  const nlohmann::ordered_json json = {{"output", output},
                                       {"vocabulary", report.train.vocabulary},
                                       {"tokenizer", report.tokenizer.hex()},
                                       {"labels", labels},
                                       {"train", split_json(report.train)},
                                       {"heldout", split_json(report.heldout)},
                                       {"bytes_read", report.source.bytes},
                                       {"replaced_bytes", report.source.replaced_bytes},
                                       {"texts_without_token", report.texts_without_token},
                                       {"tokenizer_seconds", report.tokenizer_seconds},
                                       {"encode_seconds", report.encode_seconds}};
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

std::string split_text(const ExampleFileInfo& info) {
  const double tokens = info.examples == 0 ? 0 : static_cast<double>(info.tokens) / static_cast<double>(info.examples);
  return fmt::format("{:>9} examples {:>12} tokens {:>7.1f} tokens per example", info.examples, info.tokens, tokens);
}

}  // namespace

TokenizerChoice tokenizer_choice(const std::string& name) {
  if (name == "sentencepiece") return {TokenizerKind::kSentencePiece, {}};
  if (name == "words") return {TokenizerKind::kWords, {}};
  if (name == "bytes") return {TokenizerKind::kBytes, {}};
  return {TokenizerKind::kSentencePiece, name};
}

void print_report(const LabelledTokenizeReport& report, const std::string& output, bool json) {
  if (json) return print_json(report, output);
  fmt::print("train     {}\nheld out  {}\n", split_text(report.train), split_text(report.heldout));
  const int32_t shown = std::min(report.labels.classes(), kMostShown);
  for (int32_t i = 0; i < shown; ++i) {
    const Label& label = report.labels[i];
    fmt::print("  {:<24} {:>9} train {:>9} held out\n", label.name, label.train, label.heldout);
  }
  if (shown < report.labels.classes()) fmt::print("  and {} more classes\n", report.labels.classes() - shown);
  if (report.source.replaced_bytes > 0) fmt::print("{} bytes were not UTF-8 and were read as Windows-1252\n", report.source.replaced_bytes);
  if (report.source.left_out_unsup) fmt::print("a folder \"unsup\" was passed over: its texts have no label\n");
  if (report.texts_without_token > 0) fmt::print("{} texts have no token and stay as padding only\n", report.texts_without_token);
  fmt::print("{} tokens of vocabulary; tokenizer made in {:.1f} s, text encoded in {:.1f} s\nwritten to {}: use it with --set data.corpus={}\n",
             report.train.vocabulary, report.tokenizer_seconds, report.encode_seconds, output, output);
}

}  // namespace switchyard
