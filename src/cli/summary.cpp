// switchyard summary: what a configuration makes and costs, before anything is started.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "kernels/backend.h"
#include "src/cli/app.h"
#include "src/cli/commands.h"
#include "src/config/build.h"
#include "src/config/load.h"
#include "src/config/validate.h"
#include "src/model/accounting.h"
#include "src/moe/capacity.h"
#include "src/optim/optimizer.h"

namespace switchyard {
namespace {

struct Arguments {
  ConfigArguments config;
  int ranks = 1;
  bool json = false, resolved = false;
};

struct Summary {
  std::vector<LayerCost> layers;
  ModelCost cost;
  std::vector<MemoryPart> memory;
  int64_t memory_bytes = 0;
  int64_t tokens_per_step = 0;
  // Of one token group and expert: the number that a capacity factor comes to. 0 tokens where no slots are counted.
  int64_t group_tokens = 0, slots = 0, eval_slots = 0;
};

Summary summarize(const Config& config, int ranks) {
  const ModelOptions model = model_options(config);
  const TrainOptions train = train_options(config);
  Summary summary;
  summary.layers = layer_costs(model);
  summary.cost = model_cost(model);
  summary.memory = memory_per_rank(model, {.ranks = ranks,
                                           .lanes = train.lanes,
                                           .accumulate = train.accumulate,
                                           .replicas = train.expert_replicas,
                                           .sequences = train.sequences,
                                           .precision = precision(config),
                                           .moments = make_optimizer(optimizer_options(config))->moments()});
  for (const MemoryPart& part : summary.memory) summary.memory_bytes += part.bytes;
  summary.tokens_per_step = int64_t{train.lanes} * train.accumulate * train.sequences * train.sequence_length;
  if (model.moe.experts > 1 && model.moe.router != RouterKind::kSoft) {
    summary.group_tokens = group_tokens_of(model.moe, train.sequences * train.sequence_length);
    summary.slots = capacity(model.moe, summary.group_tokens, true);
    summary.eval_slots = capacity(model.moe, summary.group_tokens, false);
  }
  return summary;
}

// "(None, 200, 32)": the extents of what a layer makes, the number of sequences left open, as Keras writes it.
std::string shape_text(const std::vector<int64_t>& extents) { return fmt::format("(None, {})", fmt::join(extents, ", ")); }

void print_layers(const std::vector<LayerCost>& layers) {
  size_t name = 5, kind = 4;
  for (const LayerCost& layer : layers) {
    name = std::max(name, layer.name.size());
    kind = std::max(kind, layer.kind.size());
  }
  const auto print = [&](const auto& layer, const auto& type, const auto& shape, const auto& parameters, const auto& active, const auto& flops) {
    fmt::print("{:<{}}  {:<{}}  {:<22}{:>14}{:>14}{:>15}\n", layer, name, type, kind, shape, parameters, active, flops);
  };
  print("Layer", "Type", "Output shape", "Parameters", "Active", "Flops/token");
  fmt::print("{}\n", std::string(name + kind + 4 + 22 + 14 + 14 + 15, '-'));
  for (const LayerCost& layer : layers) {
    print(layer.name, layer.kind, shape_text(layer.output), layer.parameters, layer.active, fmt::format("{:.0f}", layer.forward_flops));
  }
}

double mib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

void print_text(const Config& config, const Summary& summary, int ranks) {
  print_layers(summary.layers);
  fmt::print("\nparameters                {:>16}\nactive for each token     {:>16}\n", summary.cost.parameters, summary.cost.active);
  fmt::print("flops per trained token   {:>16.4g}\n", summary.cost.training_flops);
  fmt::print("tokens per step           {:>16}\nflops per step            {:>16.4g}\n", summary.tokens_per_step,
             summary.cost.training_flops * static_cast<double>(summary.tokens_per_step));
  if (summary.group_tokens > 0) {
    fmt::print("slots of an expert        {:>16} for {} tokens, {} in evaluation\n", summary.slots, summary.group_tokens, summary.eval_slots);
  }
  fmt::print("\nmemory of one rank of {}, in {}\n", ranks, Config::Precision_Name(config.precision()));
  for (const MemoryPart& part : summary.memory) fmt::print("  {:<24}{:>12.1f} MiB\n", part.name, mib(part.bytes));
  fmt::print("  {:<24}{:>12.1f} MiB\n", "together", mib(summary.memory_bytes));
}

void print_json(const Config& config, const Summary& summary, int ranks) {
  nlohmann::ordered_json json = {{"parameters", summary.cost.parameters},
                                 {"active_parameters", summary.cost.active},
                                 {"training_flops_per_token", summary.cost.training_flops},
                                 {"tokens_per_step", summary.tokens_per_step},
                                 {"precision", Config::Precision_Name(config.precision())},
                                 {"ranks", ranks},
                                 {"memory_bytes_per_rank", summary.memory_bytes}};
  if (summary.group_tokens > 0) {
    json["capacity"] = {{"group_tokens", summary.group_tokens}, {"slots", summary.slots}, {"evaluation_slots", summary.eval_slots}};
  }
  for (const MemoryPart& part : summary.memory) json["memory"].push_back({{"part", part.name}, {"bytes", part.bytes}});
  for (const LayerCost& layer : summary.layers) {
    json["layers"].push_back({{"layer", layer.name},
                              {"type", layer.kind},
                              {"output", layer.output},
                              {"parameters", layer.parameters},
                              {"active_parameters", layer.active},
                              {"forward_flops_per_token", layer.forward_flops}});
  }
  fmt::print("{}\n", json.dump(2));
}

ExitCode run(const Arguments& arguments) {
  if (arguments.ranks < 1) throw Error(ExitCode::kUsage, fmt::format("--ranks is {} but must be at least 1", arguments.ranks));
  Config config = load_config(arguments.config.path, arguments.config.overrides);
  validate(config, arguments.ranks);
  using Device = Config::Device;
  const bool on_cpu = config.device() == Device::CPU || config.device() == Device::AUTO;
  config = resolve_config(config, config.device() == Device::CUDA || (on_cpu && cpu_has_fast_bf16()));
  if (arguments.resolved) {
    fmt::print("{}", print_config(config));
    return ExitCode::kOk;
  }
  const Summary summary = summarize(config, arguments.ranks);
  if (arguments.json) {
    print_json(config, summary, arguments.ranks);
  } else {
    print_text(config, summary, arguments.ranks);
  }
  return ExitCode::kOk;
}

}  // namespace

void add_summary(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("summary", "Show layers, parameters, flops per token, memory per rank");
  add_config_arguments(command, arguments->config);
  command.add_option("--ranks", arguments->ranks, "Ranks that the memory is divided over")->type_name("P")->capture_default_str();
  command.add_flag("--resolved", arguments->resolved, "Print the whole configuration instead, every default written out");
  command.add_flag("--json", arguments->json, "Report as JSON");
  commands.push_back({&command, [arguments] { return run(*arguments); }});
}

}  // namespace switchyard
