#include "src/cli/routed.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "src/config/build.h"
#include "src/data/file.h"
#include "src/data/labelled_batches.h"

namespace switchyard {
namespace {

constexpr int64_t kBytesPerToken = 64;  // of a file, more is not read; long tokens are rare

// The beginning of the file, cut at a whole character.
std::string beginning(const std::string& path, int64_t bytes) {
  const InputFile file(path, "text file");
  std::string text(static_cast<size_t>(std::min(file.size(), bytes)), '\0');
  file.read(0, text.data(), static_cast<int64_t>(text.size()));
  if (file.size() > bytes) {
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xC0u) == 0x80) text.pop_back();
    if (!text.empty() && static_cast<unsigned char>(text.back()) >= 0xC0) text.pop_back();
  }
  return text;
}

// What stands for a token: its bytes where they are text, else its name.
std::string shown(const Tokenizer& tokenizer, int32_t token) {
  if (token < 0 || token >= tokenizer.vocabulary()) return fmt::format("<{}>", token);
  const std::string& piece = tokenizer.piece(token);
  const bool printable =
      !piece.empty() && std::none_of(piece.begin(), piece.end(), [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7F; });
  if (!printable) return tokenizer.name(token);
  try {
    demand_utf8(piece);
  } catch (const Error&) {
    return tokenizer.name(token);  // a part of a character
  }
  return piece;
}

// [T] choices of one layer. A layer without entries (Soft MoE) has none.
std::vector<std::vector<RoutedChoice>> choices_of(Context& ctx, const Route& route, int64_t tokens) {
  std::vector<std::vector<RoutedChoice>> result(static_cast<size_t>(tokens));
  const int64_t count = tokens * route.choices;
  if (!route.expert.exists() || route.expert.elements() != count || route.gate.elements() != count) return result;
  const Tensor wide = ctx.temporary(Dtype::kF64, {count});
  ctx.backend.convert(Out(wide), route.gate.reshape({count}));
  std::vector<double> gate(static_cast<size_t>(count));
  std::vector<int32_t> expert(gate.size()), position(gate.size());
  ctx.backend.copy_to_host(wide, gate.data());
  ctx.backend.copy_to_host(route.expert, expert.data());
  ctx.backend.copy_to_host(route.position, position.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    if (expert[i] >= 0) result[i / static_cast<size_t>(route.choices)].push_back({expert[i], gate[i], position[i] >= 0});
  }
  return result;
}

// What is sent through the model. The sources own the tensors of the batch.
struct Input {
  std::unique_ptr<EvaluationSource> heldout;
  std::unique_ptr<TextBatch> texts;
  MicroBatch batch;
  Counts counts;
  std::string source;
};

// The first micro-batch of the hold-out, as in evaluation.
Input heldout_input(const Trained& trained) {
  Input input;
  input.heldout = trained.data.heldout(trained.config, 1);
  if (!input.heldout) throw Error(ExitCode::kData, "there is no held-out text to route; name a file with --text-file");
  input.batch = input.heldout->at(0, 0);
  input.counts = input.heldout->counts(0);
  input.source = "the held-out text";
  return input;
}

// A classifier's texts are the lines of the file.
Input labelled_input(const Trained& trained, const std::string& text) {
  BatchOptions options = batch_options(trained.config);
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size() && static_cast<int64_t>(lines.size()) < options.sequences;) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  options.sequences = static_cast<int64_t>(lines.size());
  Input input;
  input.texts = std::make_unique<TextBatch>(trained.data.tokenizer(), options);
  input.batch = input.texts->of(lines);
  input.counts = input.texts->counts();
  return input;
}

// A document begins after the end of the one before it.
Input decoder_input(Trained& trained, Context& ctx, const std::string& text, int64_t tokens) {
  const Tokenizer& tokenizer = trained.data.tokenizer();
  std::vector<int32_t> ids = tokenizer.encode(text);
  ids.insert(ids.begin(), tokenizer.end_of_document());
  ids.resize(static_cast<size_t>(std::min({static_cast<int64_t>(ids.size()), tokens, trained.runtime->model().options().sequence_length})));
  Input input;
  input.batch.tokens = ctx.keep(Dtype::kI32, {static_cast<int64_t>(ids.size())});
  ctx.backend.copy_from_host(ids.data(), Out(input.batch.tokens));
  input.batch.sequences = 1;
  input.batch.sequence_length = static_cast<int64_t>(ids.size());
  input.counts = {.targets = input.batch.rows(), .tokens = input.batch.rows(), .groups = 1};
  return input;
}

Input file_input(Trained& trained, Context& ctx, const std::string& path, int64_t tokens) {
  const std::string text = beginning(path, tokens * kBytesPerToken);
  demand_utf8(text);
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) throw Error(ExitCode::kData, fmt::format("{} holds no text; name a file with some words", path));
  const bool labelled = trained.runtime->model().options().kind == ModelKind::kClassifier;
  Input input = labelled ? labelled_input(trained, text) : decoder_input(trained, ctx, text, tokens);
  input.source = path;
  return input;
}

// Numbers of the rows that are shown, without padding; -1 stands between the texts of a classifier.
std::vector<int64_t> shown_rows(Context& ctx, const MicroBatch& batch, bool separate, int64_t most) {
  std::vector<int32_t> mask(static_cast<size_t>(batch.rows()), 1);
  if (batch.mask.exists()) ctx.backend.copy_to_host(batch.mask, mask.data());
  std::vector<int64_t> rows;
  int64_t count = 0;
  for (int64_t row = 0; row < batch.rows() && count < most; ++row) {
    if (separate && row > 0 && row % batch.sequence_length == 0) rows.push_back(-1);
    if (mask[static_cast<size_t>(row)] == 0) continue;
    rows.push_back(row);
    ++count;
  }
  return rows;
}

}  // namespace

RoutedText route_text(Trained& trained, const std::string& text_file, int64_t tokens) {
  Runtime& runtime = *trained.runtime;
  const Arena::Mark saved(runtime.saved()), scratch(runtime.scratch());
  Context ctx = runtime.context({}, 0, 0, false);
  const Input input = text_file.empty() ? heldout_input(trained) : file_input(trained, ctx, text_file, tokens);
  runtime.model().forward(ctx, input.batch, input.counts, runtime.state());

  std::vector<int32_t> ids(static_cast<size_t>(input.batch.rows()));
  ctx.backend.copy_to_host(input.batch.tokens, ids.data());
  const std::vector<int64_t> rows = shown_rows(ctx, input.batch, runtime.model().options().kind == ModelKind::kClassifier, tokens);
  RoutedText text;
  text.checkpoint = trained.checkpoint;
  text.experts = runtime.model().options().moe.experts;
  text.source = fmt::format("The first {} tokens of {}", std::count_if(rows.begin(), rows.end(), [](int64_t row) { return row >= 0; }), input.source);
  for (const int64_t row : rows) text.tokens.push_back(row < 0 ? "\n" : shown(trained.data.tokenizer(), ids[static_cast<size_t>(row)]));
  runtime.model().for_each_moe(runtime.state(), [&](int, const MoeLayer::Saved& moe) {
    const auto all = choices_of(ctx, moe.route(), input.batch.rows());
    auto& layer = text.layers.emplace_back();
    for (const int64_t row : rows) layer.push_back(row < 0 ? std::vector<RoutedChoice>{} : all[static_cast<size_t>(row)]);
  });
  return text;
}

}  // namespace switchyard
