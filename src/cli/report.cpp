// switchyard report: a page about runs.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>

#include "src/cli/app.h"
#include "src/cli/commands.h"
#include "src/cli/routed.h"
#include "src/config/build.h"
#include "src/config/fields.h"
#include "src/config/load.h"
#include "src/config/validate.h"
#include "src/data/file.h"
#include "src/model/accounting.h"
#include "src/report/page.h"

namespace switchyard {
namespace {

struct Arguments {
  std::vector<std::string> runs;
  std::string output, text_file;
  int64_t tokens = 256;
};

// The run's configuration as it was stored, and what follows from it. One that cannot be read leaves a note.
void add_configuration(RunRecord& run) {
  try {
    const InputFile file(run.path + "/config.textproto", "configuration");
    if (file.size() > kMaxConfigBytes) throw Error(ExitCode::kData, fmt::format("{} has {} bytes, too many for a configuration", file.path(), file.size()));
    std::string text(static_cast<size_t>(file.size()), '\0');
    file.read(0, text.data(), file.size());
    const Config config = parse_config(text, file.path());
    validate(config, 1);
    // A run of epochs ends where they do, which is known to who reads its data.
    run.planned_steps = config.train().epochs() > 0 ? 0 : config.train().steps();
    visit_fields(config, [&](const Field& field) { run.config.emplace_back(field.path, field.text()); });
    complete_flops(run, model_cost(model_options(config)).training_flops);
  } catch (const Error& error) {
    run.notes.push_back(fmt::format("its configuration could not be read, so FLOPs may be missing: {}", error.what()));
  }
}

// The routed text of the first run with experts; without one, why.
void add_text(Report& report, const Arguments& arguments) {
  const auto sparse = std::find_if(report.runs.begin(), report.runs.end(), [](const RunRecord& run) {
    return std::any_of(run.steps.begin(), run.steps.end(), [](const StepMetrics& step) { return !step.layers.empty(); });
  });
  if (arguments.tokens == 0) {
    report.text_note = "none was asked for (--tokens 0)";
  } else if (sparse == report.runs.end()) {
    report.text_note = "no run has logged a MoE layer, so there is no routing to show";
  } else {
    const Log log = make_log(0);
    const MpiSession session;
    try {
      Trained trained = load_trained(session, sparse->path, {}, Drops::kAsEvaluated, *log);
      report.text = route_text(trained, arguments.text_file, arguments.tokens);
      report.text->run = sparse->name;
    } catch (const Error& error) {
      if (!arguments.text_file.empty()) throw;  // it was asked for
      report.text_note = fmt::format("{} could not be shown a text: {}", sparse->name, error.what());
    }
  }
}

ExitCode write_report(const Arguments& arguments) {
  Report report;
  for (const std::string& path : arguments.runs) {
    report.runs.push_back(read_run(path));
    add_configuration(report.runs.back());
  }
  add_text(report, arguments);
  const std::string output = !arguments.output.empty() ? arguments.output : arguments.runs.size() == 1 ? arguments.runs[0] + "/report.html" : "report.html";
  OutputFile file(output);
  file.append(report_page(std::move(report)));
  file.commit();
  fmt::print("{}\n", output);
  return ExitCode::kOk;
}

}  // namespace

void add_report(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("report", "Write a page about runs: curves, expert load, drops, time, a routed text");
  command.add_option("RUN", arguments->runs, "Directories of runs")->required()->type_name("DIR");
  command.add_option("--output", arguments->output, "The page (default: RUN/report.html, and report.html for several runs)")->type_name("FILE");
  command.add_option("--text-file", arguments->text_file, "Text to route instead of the held-out text")->type_name("FILE");
  command.add_option("--tokens", arguments->tokens, "Tokens of it at most; 0: no routed text")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20));
  commands.push_back({&command, [arguments] { return write_report(*arguments); }});
}

}  // namespace switchyard
