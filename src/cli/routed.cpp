#include "src/cli/routed.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <span>
#include <utility>

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
  return tokenizer.kind() == TokenizerKind::kWords ? " " + piece : piece;  // words lost the spaces between them
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

// Sends micro-batches through the model, one after another, until there are enough tokens.
class TextRouter {
 public:
  TextRouter(Trained& trained, int64_t tokens) : trained_(trained), most_(tokens) {
    text_.checkpoint = trained.checkpoint;
    text_.experts = options().moe.experts;
    text_.layers.resize(static_cast<size_t>(trained.runtime->model().moe_layers()));
  }

  bool full() const { return count_ >= most_; }
  int64_t left() const { return most_ - count_; }
  const ModelOptions& options() const { return trained_.runtime->model().options(); }
  bool labelled() const { return options().kind == ModelKind::kClassifier; }

  void add(Context& ctx, const MicroBatch& batch, const Counts& counts) {
    Runtime& runtime = *trained_.runtime;
    runtime.model().forward(ctx, batch, counts, runtime.state());
    std::vector<int32_t> ids(static_cast<size_t>(batch.rows()));
    ctx.backend.copy_to_host(batch.tokens, ids.data());
    const std::vector<int64_t> rows = shown_rows(ctx, batch);
    for (const int64_t row : rows) text_.tokens.push_back(row < 0 ? "" : shown(trained_.data.tokenizer(), ids[static_cast<size_t>(row)]));
    runtime.model().for_each_moe(runtime.state(), [&](int number, const MoeLayer::Saved& moe) {
      const auto all = choices_of(ctx, moe.route(), batch.rows());
      auto& layer = text_.layers[static_cast<size_t>(number)];
      for (const int64_t row : rows) layer.push_back(row < 0 ? std::vector<RoutedChoice>{} : all[static_cast<size_t>(row)]);
    });
  }

  RoutedText finish(const std::string& source) {
    text_.source = fmt::format("The first {} tokens of {}", count_, source);
    return std::move(text_);
  }

 private:
  // Numbers of the rows that are shown, without padding; -1 stands between the texts of a classifier.
  std::vector<int64_t> shown_rows(Context& ctx, const MicroBatch& batch) {
    std::vector<int32_t> mask(static_cast<size_t>(batch.rows()), 1);
    if (batch.mask.exists()) ctx.backend.copy_to_host(batch.mask, mask.data());
    std::vector<int64_t> rows;
    for (int64_t row = 0; row < batch.rows() && !full(); ++row) {
      if (labelled() && row % batch.sequence_length == 0 && count_ > 0) rows.push_back(-1);
      if (mask[static_cast<size_t>(row)] == 0) continue;
      rows.push_back(row);
      ++count_;
    }
    return rows;
  }

  Trained& trained_;
  int64_t most_, count_ = 0;
  RoutedText text_;
};

// One micro-batch has its memory to itself: what it leaves is copied before the next one comes.
void add_alone(Trained& trained, TextRouter& router, const std::function<void(Context&)>& add) {
  const Arena::Mark saved(trained.runtime->saved()), scratch(trained.runtime->scratch());
  Context ctx = trained.runtime->context({}, 0, 0, false);
  if (!router.full()) add(ctx);
}

// As in evaluation.
void add_heldout(Trained& trained, TextRouter& router) {
  const auto heldout = trained.data.heldout(trained.config, 0);
  if (!heldout) throw Error(ExitCode::kData, "there is no held-out text to route; name a file with --text-file");
  for (int64_t round = 0; round < heldout->rounds() && !router.full(); ++round) {
    const Counts counts = heldout->counts(round);
    for (int lane = 0; lane < trained.config.train().lanes(); ++lane) {
      add_alone(trained, router, [&](Context& ctx) { router.add(ctx, trained.runtime->bring(heldout->at(round, lane)), counts); });
    }
  }
}

// A classifier's texts are the lines of the file.
void add_lines(Trained& trained, TextRouter& router, const std::string& text) {
  BatchOptions options = batch_options(trained.config);
  options.sequences = 1;
  TextBatch batches(trained.data.tokenizer(), options);
  for (size_t at = 0; at < text.size() && !router.full();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const MicroBatch batch = batches.of(std::span(&line, 1));
    add_alone(trained, router, [&](Context& ctx) { router.add(ctx, trained.runtime->bring(batch), batches.counts()); });
  }
}

// As much at a time as the model has positions. A document begins after the end of the one before it.
void add_stream(Trained& trained, TextRouter& router, const std::string& text) {
  const Tokenizer& tokenizer = trained.data.tokenizer();
  std::vector<int32_t> ids = tokenizer.encode(text);
  ids.insert(ids.begin(), tokenizer.end_of_document());
  const int64_t total = static_cast<int64_t>(ids.size());
  for (int64_t at = 0; at < total && !router.full();) {
    const int64_t count = std::min({total - at, router.left(), router.options().sequence_length});
    add_alone(trained, router, [&](Context& ctx) {
      MicroBatch batch;
      batch.tokens = ctx.keep(Dtype::kI32, {count});
      ctx.backend.copy_from_host(ids.data() + at, Out(batch.tokens));
      batch.sequences = 1;
      batch.sequence_length = count;
      router.add(ctx, batch, {.targets = count, .tokens = count, .groups = 1});
    });
    at += count;
  }
}

}  // namespace

RoutedText route_text(Trained& trained, const std::string& text_file, int64_t tokens) {
  TextRouter router(trained, tokens);
  if (text_file.empty()) {
    add_heldout(trained, router);
    return router.finish("the held-out text");
  }
  const std::string text = beginning(text_file, tokens * kBytesPerToken);
  demand_utf8(text);
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
    throw Error(ExitCode::kData, fmt::format("{} holds no text; name a file with some words", text_file));
  }
  router.labelled() ? add_lines(trained, router, text) : add_stream(trained, router, text);
  return router.finish(text_file);
}

}  // namespace switchyard
