// switchyard generate: a text that the model continues.
#include <fmt/format.h>

#include <cstdio>
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
  std::vector<std::string> overrides = arguments.overrides;
  overrides.emplace_back("model.moe.eval_capacity_factor=0");  // no token is dropped, so what follows cannot change what was said
  const Log log = make_log(session.rank());
  Trained trained = load_trained(session, arguments.run, overrides, *log);
  const Tokenizer& tokenizer = *trained.data.tokenizer;
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

}  // namespace

void add_generate(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("generate", "Continue a text with a run's newest checkpoint");
  command.add_option("RUN", arguments->run, "Directory of a run")->required()->type_name("DIR");
  command.add_option("--prompt", arguments->prompt, "The text to continue")->capture_default_str();
  command.add_option("--tokens", arguments->options.tokens, "Tokens at most")->capture_default_str()->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command.add_option("--temperature", arguments->options.temperature, "0: always the most probable token")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  command.add_option("--top-k", arguments->options.top_k, "Draw from so many most probable tokens; 0: all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command.add_option("--seed", arguments->options.seed, "Of the draws")->capture_default_str();
  command.add_flag("--uncached", arguments->uncached, "Compute the whole context for every token, as a check of the cache");
  command.add_option("--set", arguments->overrides, "Override a field of the run's configuration. May be repeated")
      ->allow_extra_args(false)
      ->type_name("FIELD=VALUE");
  commands.push_back({&command, [arguments] { return run_on_ranks([&](const MpiSession& session) { return generate_text(session, *arguments); }); }, true});
}

}  // namespace switchyard
