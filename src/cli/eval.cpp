// switchyard eval: the hold-out under the best or newest whole checkpoint of a run.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "comm/agree.h"
#include "src/cli/app.h"
#include "src/cli/commands.h"
#include "src/cli/trained.h"
#include "src/train/evaluate.h"

namespace switchyard {
namespace {

struct Arguments {
  std::string run;
  std::vector<std::string> overrides;
  bool json = false;
};

void print_layers(const EvaluationReport& report) {
  for (size_t layer = 0; layer < report.layers.size(); ++layer) {
    const LayerReport& moe = report.layers[layer];
    fmt::print("MoE layer {}: dropped {:.2f} %, entropy {:.3f} nats, load", layer, 100 * moe.dropped_fraction(), moe.entropy);
    for (const double load : moe.load()) fmt::print(" {:.3f}", load);
    fmt::print("\n");
  }
}

// A table of which class was taken for which. Names of classes are cut to a column.
void print_confusion(const EvaluationReport& report, const Labels& labels) {
  constexpr size_t kMostColumns = 20;  // what a screen shows
  const size_t classes = report.classes.size();
  if (report.confusion.empty() || classes > kMostColumns) return;
  const auto name = [&](size_t label) { return labels.name(static_cast<int32_t>(label)).substr(0, 12); };
  fmt::print("\n{:<14}", "is \\ taken for");
  for (size_t taken = 0; taken < classes; ++taken) fmt::print("{:>13}", name(taken));
  fmt::print("\n");
  for (size_t label = 0; label < classes; ++label) {
    fmt::print("{:<14}", name(label));
    for (size_t taken = 0; taken < classes; ++taken) fmt::print("{:>13}", report.confusion[label * classes + taken]);
    fmt::print("\n");
  }
}

void print_classes(const Trained& trained, const EvaluationReport& report) {
  const Labels& labels = trained.data.labels();
  fmt::print("checkpoint  {}\nexamples    {}\nloss        {:.6f} nats per example\naccuracy    {:.4f}\nmacro F1    {:.4f}\n", trained.checkpoint,
             report.targets, report.loss(), report.accuracy(), report.macro_f1());
  print_layers(report);
  fmt::print("\n{:<20}{:>10}{:>11}{:>9}{:>9}\n", "class", "examples", "precision", "recall", "F1");
  for (size_t label = 0; label < report.classes.size(); ++label) {
    const ClassScore& score = report.classes[label];
    fmt::print("{:<20}{:>10}{:>11.4f}{:>9.4f}{:>9.4f}\n", labels.name(static_cast<int32_t>(label)), score.examples, score.precision(), score.recall(),
               score.f1());
  }
  print_confusion(report, labels);
}

void print_text(const Trained& trained, const EvaluationReport& report) {
  if (!report.classes.empty()) return print_classes(trained, report);
  fmt::print("checkpoint  {}\ntargets     {}\nloss        {:.6f} nats per token\nperplexity  {:.4f}\naccuracy    {:.4f}\n", trained.checkpoint, report.targets,
             report.loss(), report.perplexity(), report.accuracy());
  print_layers(report);
  fmt::print("held-out bits per byte: {:.4f}\n", report.bits_per_byte(trained.data.heldout_bytes()));
}

void add_classes(nlohmann::ordered_json& json, const Trained& trained, const EvaluationReport& report) {
  json["macro_f1"] = report.macro_f1();
  const size_t classes = report.classes.size();
  for (size_t label = 0; label < classes; ++label) {
    const ClassScore& score = report.classes[label];
    json["classes"].push_back({{"label", trained.data.labels().name(static_cast<int32_t>(label))},
                               {"examples", score.examples},
                               {"precision", score.precision()},
                               {"recall", score.recall()},
                               {"f1", score.f1()}});
    if (report.confusion.empty()) continue;
    const auto row = report.confusion.begin() + static_cast<int64_t>(label * classes);
    json["confusion"].push_back(std::vector<int64_t>(row, row + static_cast<int64_t>(classes)));
  }
}

void print_json(const Trained& trained, const EvaluationReport& report) {
  nlohmann::ordered_json json = {{"checkpoint", trained.checkpoint}, {"step", trained.step}, {"targets", report.targets}};
  if (report.classes.empty()) json["bytes"] = trained.data.heldout_bytes();
  json["loss"] = report.loss();
  if (report.classes.empty()) json["perplexity"] = report.perplexity();
  json["accuracy"] = report.accuracy();
  if (report.classes.empty()) {
    json["bits_per_byte"] = report.bits_per_byte(trained.data.heldout_bytes());
  } else {
    add_classes(json, trained, report);
  }
  json["layers"] = nlohmann::ordered_json::array();
  for (const LayerReport& moe : report.layers) {
    json["layers"].push_back({{"load", moe.load()}, {"dropped", moe.dropped_fraction()}, {"entropy", moe.entropy}});
  }
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

ExitCode eval(const MpiSession& session, const Arguments& arguments) {
  const Log log = make_log(session.rank());
  Trained trained = load_trained(session, arguments.run, arguments.overrides, Drops::kAsEvaluated, *log);
  const auto heldout = trained.data.heldout(trained.config, 0);
  if (!heldout) {
    throw AgreedError(ExitCode::kData, fmt::format("{} holds out nothing; tokenize it again with --hold-out above 0", trained.config.data().corpus()), 0);
  }
  const EvaluationReport report = evaluate(*trained.runtime, *heldout);
  if (session.rank() == 0) (arguments.json ? print_json : print_text)(trained, report);
  return ExitCode::kOk;
}

}  // namespace

void add_eval(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("eval", "Evaluate a run's best or newest checkpoint on what is held out");
  command.add_option("RUN", arguments->run, "Directory of a run")->required()->type_name("DIR");
  command.add_option("--set", arguments->overrides, "Override a field of the run's configuration. May be repeated")
      ->allow_extra_args(false)
      ->type_name("FIELD=VALUE");
  command.add_flag("--json", arguments->json, "Report as JSON");
  commands.push_back({&command, [arguments] { return run_on_ranks([&](const MpiSession& session) { return eval(session, *arguments); }); }, true});
}

}  // namespace switchyard
