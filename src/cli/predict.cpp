// switchyard predict: the classes of texts, and with --explain the experts of their tokens.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "comm/agree.h"
#include "src/cli/app.h"
#include "src/cli/commands.h"
#include "src/cli/trained.h"
#include "src/config/build.h"
#include "src/data/utf8.h"
#include "src/train/predict.h"

namespace switchyard {
namespace {

struct Arguments {
  std::string run;
  std::vector<std::string> texts, overrides;
  bool explain = false, json = false;
};

constexpr size_t kMostLineBytes = size_t{64} << 20;

// Standard input line by line, without the line ends.
class Lines {
 public:
  // False at the end. Throws Error(kData) for a line of more than kMostLineBytes, Error(kInputOutput).
  bool next(std::string& line) {
    line.clear();
    for (;;) {
      if (begin_ == end_ && !fill()) return !line.empty();
      const char* from = buffer_ + begin_;
      const auto* found = static_cast<const char*>(std::memchr(from, '\n', end_ - begin_));
      const size_t bytes = static_cast<size_t>((found != nullptr ? found : buffer_ + end_) - from);
      if (line.size() + bytes > kMostLineBytes) {
        throw Error(ExitCode::kData,
                    fmt::format("line {} of standard input has more than {} bytes; give each text a line of its own", number_ + 1, kMostLineBytes));
      }
      line.append(from, bytes);
      begin_ += bytes + (found != nullptr ? 1 : 0);
      if (found == nullptr) continue;
      ++number_;
      if (line.ends_with('\r')) line.pop_back();
      return true;
    }
  }

 private:
  bool fill() {
    ssize_t bytes = 0;
    do {
      bytes = ::read(STDIN_FILENO, buffer_, sizeof(buffer_));
    } while (bytes < 0 && errno == EINTR);
    if (bytes < 0) throw Error(ExitCode::kInputOutput, fmt::format("cannot read standard input: {}", std::strerror(errno)));
    begin_ = 0;
    end_ = static_cast<size_t>(bytes);
    return bytes > 0;
  }

  char buffer_[1 << 16];
  size_t begin_ = 0, end_ = 0;
  int64_t number_ = 0;
};

std::string expert_text(const std::vector<TokenExpert>& experts) {
  std::string text;
  for (const TokenExpert& expert : experts) text += fmt::format("{}{} ({:.2f})", text.empty() ? "expert " : ", ", expert.expert, expert.gate);
  return text.empty() ? "-" : text;
}

std::string trimmed(const std::string& line) { return line.substr(0, line.find_last_not_of(' ') + 1); }

// "verb 0.9312  noun 0.0621": the likeliest class first. Then a line for each token.
void print_text(const Prediction& prediction, const Labels& labels, const Tokenizer& tokenizer) {
  std::vector<int32_t> order(prediction.probabilities.size());
  std::iota(order.begin(), order.end(), 0);
  const auto probability = [&](int32_t label) { return prediction.probabilities[static_cast<size_t>(label)]; };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return probability(a) > probability(b); });
  std::string line;
  for (const int32_t label : order) line += fmt::format("{}{} {:.4f}", line.empty() ? "" : "  ", labels.name(label), probability(label));
  fmt::print("{}\n", line);
  if (prediction.tokens.empty() || prediction.layers.empty()) return;
  const auto went_nowhere = [](const auto& layer) { return std::all_of(layer.begin(), layer.end(), [](const auto& experts) { return experts.empty(); }); };
  if (std::all_of(prediction.layers.begin(), prediction.layers.end(), went_nowhere)) {
    fmt::print("  no token went to an expert of its own: in Soft MoE each works on mixtures of all\n");
    return;
  }
  std::string header = fmt::format("  {:<20}", "token");
  for (size_t layer = 0; layer < prediction.layers.size(); ++layer) header += fmt::format("  {:<18}", fmt::format("MoE layer {}", layer));
  fmt::print("{}\n", trimmed(header));
  for (size_t i = 0; i < prediction.tokens.size(); ++i) {
    std::string row = fmt::format("  {:<20}", tokenizer.name(prediction.tokens[i]));
    for (const auto& layer : prediction.layers) row += fmt::format("  {:<18}", expert_text(layer[i]));
    fmt::print("{}\n", trimmed(row));
  }
}

// One line of JSON for each text.
void print_json(const Prediction& prediction, const Labels& labels, const Tokenizer& tokenizer) {
  nlohmann::ordered_json probabilities, json;
  for (int32_t label = 0; label < labels.classes(); ++label) probabilities[labels.name(label)] = prediction.probabilities[static_cast<size_t>(label)];
  json["label"] = labels.name(prediction.best());
  json["probabilities"] = probabilities;
  for (size_t i = 0; i < prediction.tokens.size(); ++i) {
    nlohmann::ordered_json layers = nlohmann::ordered_json::array();
    for (const auto& layer : prediction.layers) {
      nlohmann::ordered_json experts = nlohmann::ordered_json::array();
      for (const TokenExpert& expert : layer[i]) experts.push_back({{"expert", expert.expert}, {"gate", expert.gate}});
      layers.push_back(experts);
    }
    json["tokens"].push_back({{"token", tokenizer.name(prediction.tokens[i])}, {"layers", layers}});
  }
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

// Texts on their way to the model, a micro-batch of them at a time.
class Desk {
 public:
  Desk(Trained& trained, const Arguments& arguments)
      : arguments_(arguments),
        labels_(trained.data.labels()),
        tokenizer_(trained.data.tokenizer()),
        options_(batch_options(trained.config)),
        predictor_(*trained.runtime, tokenizer_, options_) {}

  void add(std::string text) {
    ++texts_;
    if (const size_t bad = first_invalid_byte(text); bad != text.size()) {
      throw Error(ExitCode::kData, fmt::format("text {} is not UTF-8: its byte {} begins no character; convert it with iconv -t UTF-8", texts_, bad));
    }
    pending_.push_back(std::move(text));
    if (static_cast<int64_t>(pending_.size()) == options_.sequences) finish();
  }

  void finish() {
    for (const Prediction& prediction : predictor_.predict(pending_, arguments_.explain)) {
      (arguments_.json ? print_json : print_text)(prediction, labels_, tokenizer_);
    }
    pending_.clear();
  }

 private:
  const Arguments& arguments_;
  const Labels& labels_;
  const Tokenizer& tokenizer_;
  BatchOptions options_;
  Predictor predictor_;
  std::vector<std::string> pending_;
  int64_t texts_ = 0;
};

ExitCode predict(const MpiSession& session, const Arguments& arguments) {
  if (session.size() > 1)
    throw AgreedError(ExitCode::kUsage, fmt::format("predict works on one rank, but {} were started; run it without mpirun", session.size()), 0);
  const Log log = make_log(session.rank());
  Trained trained = load_trained(session, arguments.run, arguments.overrides, Drops::kNone, *log);  // texts do not depend on one another
  if (trained.config.model().kind() != Config::Model::CLASSIFIER) {
    throw Error(ExitCode::kUsage, fmt::format("{} is a run of a language model, which has no classes; use switchyard generate", arguments.run));
  }
  Desk desk(trained, arguments);
  for (const std::string& text : arguments.texts) desk.add(text);
  if (!arguments.texts.empty()) {
    desk.finish();
    return ExitCode::kOk;
  }
  const auto lines = std::make_unique<Lines>();
  const bool waiting = isatty(STDIN_FILENO) != 0;  // somebody types, and reads the answer before the next text
  for (std::string line; lines->next(line);) {
    desk.add(line);
    if (!waiting) continue;
    desk.finish();
    std::fflush(stdout);
  }
  desk.finish();
  return ExitCode::kOk;
}

}  // namespace

void add_predict(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("predict", "Classify texts with a run's best or newest checkpoint");
  command.add_option("RUN", arguments->run, "Directory of a run")->required()->type_name("DIR");
  command.add_option("--text", arguments->texts, "A text; may be repeated (default: each line of standard input)")->allow_extra_args(false)->type_name("TEXT");
  command.add_flag("--explain", arguments->explain, "Show each token with its experts and their gates in each MoE layer");
  command.add_option("--set", arguments->overrides, "Override a field of the run's configuration. May be repeated")
      ->allow_extra_args(false)
      ->type_name("FIELD=VALUE");
  command.add_flag("--json", arguments->json, "Print one JSON object a text");
  commands.push_back({&command, [arguments] { return run_on_ranks([&](const MpiSession& session) { return predict(session, *arguments); }); }, true});
}

}  // namespace switchyard
