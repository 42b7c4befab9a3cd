// switchyard dataset: makes a data set out of what a Debian machine has, without a network.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <thread>

#include "src/cli/commands.h"
#include "src/cli/labelled_report.h"
#include "src/data/gcide_pos.h"

namespace switchyard {
namespace {

struct Arguments {
  std::string name, output, source = kGcidePath, layout = "tokens", tokenizer = "words";
  int64_t vocabulary = kDefaultWords;
  bool json = false;
};

ExitCode run(const Arguments& arguments) {
  if (arguments.name != "gcide-pos") throw Error(ExitCode::kUsage, fmt::format("there is no data set \"{}\"; there is gcide-pos", arguments.name));
  if (!std::filesystem::exists(arguments.source)) {
    throw Error(ExitCode::kInputOutput,
                fmt::format("{} is missing; install Debian's dict-gcide (launch/datasets.sh does), or name a copy with --source", arguments.source));
  }
  const std::string output = arguments.output.empty() ? "data/gcide-pos" : arguments.output;
  if (arguments.layout == "folders") {
    const FolderCounts counts = write_gcide_pos_folders(arguments.source, output);
    fmt::print("{} texts in {}/train, {} in {}/test, one folder for each class\n", counts.train, output, counts.heldout, output);
    return ExitCode::kOk;
  }
  if (arguments.layout != "tokens") throw Error(ExitCode::kUsage, fmt::format("layout is \"{}\" but must be tokens or folders", arguments.layout));
  LabelledTokenizeOptions options;
  const TokenizerChoice choice = tokenizer_choice(arguments.tokenizer);
  options.kind = choice.kind;
  options.tokenizer = choice.file;
  options.vocabulary = arguments.vocabulary;
  options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  options.output = output;
  print_report(make_gcide_pos(arguments.source, options), output, arguments.json);
  return ExitCode::kOk;
}

}  // namespace

void add_dataset(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("dataset", "Make a labelled data set from a Debian package");
  command.add_option("NAME", arguments->name, "gcide-pos: definitions of GCIDE and the parts of speech of their words")->required();
  command.add_option("-o,--output", arguments->output, "Folder to be made; data/gcide-pos if none is named")->type_name("DIR");
  command.add_option("--layout", arguments->layout, "tokens, beside train.tsv and heldout.tsv; or folders, one text in each file")
      ->type_name("HOW")
      ->capture_default_str();
  command.add_option("--tokenizer", arguments->tokenizer, "words, sentencepiece, bytes, or a tokenizer file")->type_name("KIND")->capture_default_str();
  command.add_option("--vocabulary", arguments->vocabulary, "Tokens that words or sentencepiece have")->type_name("N")->capture_default_str();
  command.add_option("--source", arguments->source, "The dictionary")->type_name("FILE")->capture_default_str();
  command.add_flag("--json", arguments->json, "Report as JSON");
  commands.push_back({&command, [arguments] { return run(*arguments); }});
}

}  // namespace switchyard
