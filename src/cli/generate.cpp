// switchyard generate: a text that the model continues.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <functional>
#include <memory>

#include "comm/agree.h"
#include "src/cli/app.h"
#include "src/cli/commands.h"
#include "src/cli/trained.h"
#include "src/train/generate.h"

namespace switchyard {
namespace {

struct Arguments {
  std::string run, prompt;
  std::vector<std::string> overrides;
  GenerateOptions options;
  bool uncached = false;
};

// Writes whole characters: a token may end inside one.
class Utf8Printer {
 public:
  void print(const std::string& bytes) {
    pending_ += bytes;
    size_t whole = pending_.size();
    for (size_t back = 1; back <= 3 && back <= pending_.size(); ++back) {
      const unsigned char byte = static_cast<unsigned char>(pending_[pending_.size() - back]);
      if ((byte & 0xC0u) == 0x80u) continue;
      const size_t length = byte >= 0xF0u ? 4 : byte >= 0xE0u ? 3 : byte >= 0xC0u ? 2 : 1;
      if (length > back) whole = pending_.size() - back;
      break;
    }
    std::fwrite(pending_.data(), 1, whole, stdout);
    std::fflush(stdout);
    pending_.erase(0, whole);
  }
  void finish() {
    std::fwrite(pending_.data(), 1, pending_.size(), stdout);
    pending_.clear();
  }

 private:
  std::string pending_;
};

ExitCode generate_text(const MpiSession& session, const Arguments& arguments) {
  if (session.size() > 1)
    throw AgreedError(ExitCode::kUsage, fmt::format("generate works on one rank, but {} were started; run it without mpirun", session.size()), 0);
  demand_utf8(arguments.prompt);
  const Log log = make_log(session.rank());
  Trained trained = load_trained(session, arguments.run, arguments.overrides, Drops::kNone, *log);  // what follows cannot change what was said
  if (trained.config.model().kind() != Config::Model::DECODER) {
    throw Error(ExitCode::kUsage, fmt::format("{} is a run of a classifier, which writes no text; use switchyard predict", arguments.run));
  }
  const Tokenizer& tokenizer = trained.data.tokenizer();
  GenerateOptions options = arguments.options;
  options.cached = !arguments.uncached;
  options.end = tokenizer.end_of_document();
  // A document begins after the end of the one before it.
  std::vector<int32_t> prompt = {tokenizer.end_of_document()};
  const std::vector<int32_t> text = tokenizer.encode(arguments.prompt);
  prompt.insert(prompt.end(), text.begin(), text.end());
  Utf8Printer printer;
  printer.print(arguments.prompt);
  generate(*trained.runtime, prompt, options, [&](int32_t token) {
    if (token != options.end) printer.print(token < tokenizer.vocabulary() ? tokenizer.piece(token) : "");
  });
  printer.finish();
  fmt::print("\n");
  return ExitCode::kOk;
}

// Refuses what is not a number from `low` to `high`, `low` itself only where it is allowed. CLI::Range lets NaN pass.
std::function<std::string(const std::string&)> number_between(double low, bool low_allowed, double high) {
  return [=](const std::string& text) -> std::string {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size() && (low_allowed ? value >= low : value > low) && value <= high) return "";
    return fmt::format("expected a number {} {} and at most {}, found {}", low_allowed ? "of at least" : "above", low, high, text);
  };
}

}  // namespace

void add_generate(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("generate", "Continue a text with a run's newest checkpoint");
  command.add_option("RUN", arguments->run, "Directory of a run")->required()->type_name("DIR");
  command.add_option("--prompt", arguments->prompt, "The text to continue")->capture_default_str();
  command.add_option("--tokens", arguments->options.tokens, "Tokens at most")->capture_default_str()->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command.add_option("--temperature", arguments->options.temperature, "0: always the most probable token")
      ->capture_default_str()
      ->check(number_between(0, true, 100));
  command.add_option("--top-k", arguments->options.top_k, "Draw from so many most probable tokens; 0: all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command.add_option("--top-p", arguments->options.top_p, "Draw from the fewest most probable tokens whose probabilities sum to this; 1: all")
      ->capture_default_str()
      ->check(number_between(0, false, 1));
  command.add_option("--seed", arguments->options.seed, "Of the draws")->capture_default_str();
  command.add_flag("--uncached", arguments->uncached, "Compute the whole context for every token, as a check of the cache");
  command.add_option("--set", arguments->overrides, "Override a field of the run's configuration. May be repeated")
      ->allow_extra_args(false)
      ->type_name("FIELD=VALUE");
  commands.push_back({&command, [arguments] { return run_on_ranks([&](const MpiSession& session) { return generate_text(session, *arguments); }); }, true});
}

}  // namespace switchyard
