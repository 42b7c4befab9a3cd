// switchyard inspect: what the newest whole checkpoint of a run holds, and whether every byte of it is what was written.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/manifest.h"
#include "src/cli/app.h"
#include "src/cli/commands.h"

namespace switchyard {
namespace {

struct Arguments {
  std::string run;
  bool digest = false, json = false;
};

struct Totals {
  int64_t weights = 0, optimizer = 0;  // tensors
  int64_t parameters = 0;
  int64_t bytes = 0;  // of all files
};

Totals totals_of(const Manifest& manifest) {
  Totals totals;
  for (const ManifestTensor& tensor : manifest.tensors) {
    const bool moment = tensor.name.starts_with(kOptimizerPrefix);
    ++(moment ? totals.optimizer : totals.weights);
    if (!moment) totals.parameters += tensor.shape.elements();
  }
  for (const ManifestFile& file : manifest.files) totals.bytes += file.bytes;
  return totals;
}

FoundCheckpoint newest(const std::string& run, std::vector<std::string>& warnings) {
  if (!std::filesystem::is_directory(run)) throw Error(ExitCode::kInputOutput, fmt::format("{} is no directory; name the --run directory of a training", run));
  const auto checkpoint = find_newest_valid(run, warnings);
  if (!checkpoint) throw Error(ExitCode::kData, fmt::format("{} holds no checkpoint; train writes one at its end and every checkpoint.every steps", run));
  return *checkpoint;
}

void print_text(const FoundCheckpoint& checkpoint, const std::string& verified) {
  const StateInfo& info = checkpoint.manifest.info;
  const Totals totals = totals_of(checkpoint.manifest);
  fmt::print("checkpoint    {}\nstep          {}\nskipped       {}\ntokens        {}\nseed          {}\nprecision     {}\n", checkpoint.directory, info.step,
             info.skips, info.tokens, info.seed, info.precision);
  fmt::print("written by    {} on {} {}\n", info.code, info.ranks, info.ranks == 1 ? "rank" : "ranks");
  fmt::print("parameters    {}\ntensors       {} of weights, {} of the optimizer\nfiles         {}, {} bytes\nstate digest  {}\n", totals.parameters,
             totals.weights, totals.optimizer, checkpoint.manifest.files.size(), totals.bytes, checkpoint.manifest.state_digest);
  if (!verified.empty()) fmt::print("every byte was read, and makes that digest\n");
}

void print_json(const FoundCheckpoint& checkpoint, const std::string& verified) {
  const StateInfo& info = checkpoint.manifest.info;
  const Totals totals = totals_of(checkpoint.manifest);
  nlohmann::ordered_json json = {{"checkpoint", checkpoint.directory},
                                 {"step", info.step},
                                 {"skips", info.skips},
                                 {"tokens", info.tokens},
                                 {"seed", info.seed},
                                 {"precision", info.precision},
                                 {"tokenizer", info.tokenizer},
                                 {"code", info.code},
                                 {"ranks", info.ranks},
                                 {"parameters", totals.parameters},
                                 {"weight_tensors", totals.weights},
                                 {"optimizer_tensors", totals.optimizer},
                                 {"files", checkpoint.manifest.files.size()},
                                 {"bytes", totals.bytes},
                                 {"state_digest", checkpoint.manifest.state_digest},
                                 {"verified", !verified.empty()}};
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

ExitCode run(const Arguments& arguments) {
  std::vector<std::string> warnings;
  const FoundCheckpoint checkpoint = newest(arguments.run, warnings);
  const Log log = make_log(0);
  for (const std::string& warning : warnings) log->warn("warning: {}", warning);
  std::string verified;
  if (arguments.digest) {
    verified = verify_checkpoint(checkpoint.directory);
    if (verified != checkpoint.manifest.state_digest) {
      throw Error(ExitCode::kData, fmt::format("{} has the state digest {} but its manifest says {}; resume from an older checkpoint", checkpoint.directory,
                                               verified, checkpoint.manifest.state_digest));
    }
  }
  if (arguments.json) {
    print_json(checkpoint, verified);
  } else {
    print_text(checkpoint, verified);
  }
  return ExitCode::kOk;
}

}  // namespace

void add_inspect(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("inspect", "Show what the newest checkpoint of a run holds");
  command.add_option("RUN", arguments->run, "Directory of a run")->required()->type_name("DIR");
  command.add_flag("--digest", arguments->digest, "Read every byte and compare checksums and state digest");
  command.add_flag("--json", arguments->json, "Report as JSON");
  commands.push_back({&command, [arguments] { return run(*arguments); }});
}

}  // namespace switchyard
