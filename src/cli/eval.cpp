// switchyard eval: the held-out text under the newest whole checkpoint of a run.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "comm/agree.h"
#include "src/cli/app.h"
#include "src/cli/commands.h"
#include "src/cli/trained.h"
#include "src/config/build.h"
#include "src/train/evaluate.h"

namespace switchyard {
namespace {

struct Arguments {
  std::string run;
  std::vector<std::string> overrides;
  bool json = false;
};

void print_text(const Trained& trained, const EvaluationReport& report, int64_t bytes) {
  fmt::print("checkpoint  {}\ntargets     {}\nloss        {:.6f} nats per token\nperplexity  {:.4f}\naccuracy    {:.4f}\n", trained.checkpoint, report.targets,
             report.loss(), report.perplexity(), report.accuracy());
  for (size_t layer = 0; layer < report.layers.size(); ++layer) {
    const LayerReport& moe = report.layers[layer];
    fmt::print("MoE layer {}: dropped {:.2f} %, entropy {:.3f} nats, load", layer, 100 * moe.dropped_fraction(), moe.entropy);
    for (const double load : moe.load()) fmt::print(" {:.3f}", load);
    fmt::print("\n");
  }
  fmt::print("held-out bits per byte: {:.4f}\n", report.bits_per_byte(bytes));
}

void print_json(const Trained& trained, const EvaluationReport& report, int64_t bytes) {
  nlohmann::ordered_json json = {{"checkpoint", trained.checkpoint},
                                 {"step", trained.step},
                                 {"targets", report.targets},
                                 {"bytes", bytes},
                                 {"loss", report.loss()},
                                 {"perplexity", report.perplexity()},
                                 {"accuracy", report.accuracy()},
                                 {"bits_per_byte", report.bits_per_byte(bytes)}};
  json["layers"] = nlohmann::ordered_json::array();
  for (const LayerReport& moe : report.layers) {
    json["layers"].push_back({{"load", moe.load()}, {"dropped", moe.dropped_fraction()}, {"entropy", moe.entropy}});
  }
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

ExitCode eval(const MpiSession& session, const Arguments& arguments) {
  const Log log = make_log(session.rank());
  Trained trained = load_trained(session, arguments.run, arguments.overrides, *log);
  if (!trained.data.heldout)
    throw AgreedError(ExitCode::kData, fmt::format("{} holds out no text; tokenize it again with --hold-out above 0", trained.config.data().corpus()), 0);
  EvaluationBatches heldout(*trained.data.heldout, batch_options(trained.config));
  const EvaluationReport report = evaluate(*trained.runtime, heldout);
  if (session.rank() != 0) return ExitCode::kOk;
  (arguments.json ? print_json : print_text)(trained, report, trained.data.heldout->info().source_bytes);
  return ExitCode::kOk;
}

}  // namespace

void add_eval(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("eval", "Evaluate a run's newest checkpoint on the held-out text");
  command.add_option("RUN", arguments->run, "Directory of a run")->required()->type_name("DIR");
  command.add_option("--set", arguments->overrides, "Override a field of the run's configuration. May be repeated")
      ->allow_extra_args(false)
      ->type_name("FIELD=VALUE");
  command.add_flag("--json", arguments->json, "Report as JSON");
  commands.push_back({&command, [arguments] { return run_on_ranks([&](const MpiSession& session) { return eval(session, *arguments); }); }, true});
}

}  // namespace switchyard
