// Times the whole training step: forward, backward, update, communication.
//
//   build/bench/step CONFIG [--set FIELD=VALUE]... [--blocks 3] [--seconds 20] [--turns PATH] [--dump FILE] [--overlap]
//   launch/local.sh 2 build/bench/step CONFIG ...
//
// After 50 steps (warm-up, and the loss that is compared with others) come timed blocks of whole steps. The router needs
// some hundred steps to balance, so the timed steps send token t to expert t modulo E: every expert has as many rows.
// One line of JSON: tokens/s of each block, the share of dropped tokens, seconds by phase, peak memory of rank 0, seconds
// from the process's creation to the end of its first step.
//
// --turns PATH takes turns with another program: before block i PATH.ready.i is made and PATH.go.i is waited for, asleep.
// --overlap adds what the formula of src/moe/README.md needs: seconds of a step, and of one trip of rows on rank 0 the
// seconds of the experts and the bytes that leave for other ranks.
// --dump FILE writes the windows of the first 64 steps as int32 [64, windows of a step, S + 1] and does nothing else:
// what another program needs to train on the same tokens.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "src/cli/app.h"
#include "src/cli/run_data.h"
#include "src/cli/workplace.h"
#include "src/config/build.h"
#include "src/train/trainer.h"

namespace switchyard {
namespace {

constexpr int64_t kWarmUp = 50, kDumpSteps = 64, kEvents = 1 << 20;

struct Arguments {
  ConfigArguments config;
  int blocks = 3;
  double seconds = 20;
  bool overlap = false;
  std::string turns, dump;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Seconds since the kernel made this process.
double process_age() {
  std::ifstream stat("/proc/self/stat"), uptime("/proc/uptime");
  std::string text((std::istreambuf_iterator<char>(stat)), {});
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string field;
  for (int i = 0; i < 20; ++i) fields >> field;
  double up = 0;
  uptime >> up;
  return up - std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

int64_t peak_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6));
  }
  return 0;
}

void dump_windows(const Config& config, const std::string& path) {
  const RunData data(config);
  const auto batches = data.train(config);
  std::ofstream file(path, std::ios::binary);
  const int64_t s = config.model().sequence_length();
  for (int64_t step = 0; step < kDumpSteps; ++step) {
    for (int a = 0; a < config.train().accumulate(); ++a) {
      for (int w = 0; w < config.train().lanes(); ++w) {
        const MicroBatch batch = batches->at(step, a, w);
        for (int64_t b = 0; b < batch.sequences; ++b) {
          file.write(reinterpret_cast<const char*>(batch.tokens.get<int32_t>() + b * s), s * 4);
          file.write(reinterpret_cast<const char*>(batch.targets.get<int32_t>() + (b + 1) * s - 1), 4);
        }
      }
    }
  }
  if (!file.flush()) throw Error(ExitCode::kInputOutput, fmt::format("cannot write {}; check the path and the room on the disk", path));
}

struct Block {
  int64_t steps = 0, tokens = 0, routed = 0, dropped = 0;
  double seconds = 0;
};

// At least `seconds` of whole steps; every rank does as many.
Block timed_block(Trainer& trainer, BatchSource& batches, Communicator& communicator, int64_t steps) {
  Block block;
  communicator.barrier({"block", -1});
  const double begin = now();
  for (; block.steps < steps; ++block.steps) {
    const StepReport report = trainer.step(batches);
    block.tokens += report.counts.tokens;
    for (const LayerReport& layer : report.layers) {
      block.routed += layer.tokens;
      block.dropped += layer.dropped;
    }
  }
  communicator.barrier({"block", -1});
  block.seconds = now() - begin;
  return block;
}

// Before block `block`, every rank: sleeps until somebody says that it is this program's turn.
void wait_for_turn(const std::string& turns, int block, int rank) {
  if (turns.empty()) return;
  if (rank == 0) std::ofstream(fmt::format("{}.ready.{}", turns, block));
  while (!std::filesystem::exists(fmt::format("{}.go.{}", turns, block))) usleep(5000);
}

// Every MoE layer sends token t of every micro-batch to expert t modulo E.
RouteBook in_turn(const Config& config) {
  RouteBook book;
  book.mode = RouteBook::Mode::kReplay;
  const Config::Model& model = config.model();
  std::vector<int32_t> experts(static_cast<size_t>(config.train().sequences()) * static_cast<size_t>(model.sequence_length()));
  for (size_t t = 0; t < experts.size(); ++t) experts[t] = static_cast<int32_t>(t % static_cast<size_t>(model.moe().experts()));
  for (int layer = 0; layer < model.blocks(); ++layer) {
    for (int64_t lane = 0; lane < config.train().lanes(); ++lane) {
      for (int64_t a = 0; a < config.train().accumulate(); ++a) book.experts[{layer, lane, a}] = experts;
    }
  }
  return book;
}

// Means over the trips of rank 0, from a trace of whole steps.
void add_overlap(const Trace& trace, int chunks, double step_seconds, int64_t steps, nlohmann::ordered_json& line) {
  double forward = 0, rows_backward = 0, weights = 0, bytes = 0;
  int64_t forwards = 0, backwards = 0;
  for (const TraceEvent& event : trace.events()) {
    const double seconds = 1e-9 * static_cast<double>(event.duration_ns);
    const std::string_view what = event.name;
    if (what == "experts") {
      forward += seconds;
      ++forwards;
    } else if (what == "experts backward") {  // two of each chunk, then one of the weights
      (++backwards % (2 * chunks + 1) == 0 ? weights : rows_backward) += seconds;
    } else if (what == "dispatch") {
      bytes += static_cast<double>(event.bytes);
    }
  }
  if (forwards == 0) throw Error(ExitCode::kUsage, "--overlap expects a configuration with experts, but no layer has any");
  if (trace.dropped_events() > 0) throw Error(ExitCode::kUsage, "--overlap: the trace is full; give fewer --seconds or --blocks");
  const double trips = static_cast<double>(forwards) / (2 * chunks);
  line["step_seconds"] = step_seconds;
  line["trips_of_a_step"] = trips / static_cast<double>(steps);
  line["experts_seconds"] = forward / trips;
  line["experts_backward_seconds"] = rows_backward / trips;
  line["weights_seconds"] = weights / trips;
  line["way_bytes"] = bytes / trips;
}

int64_t steps_for(double seconds, double per_step, Communicator& communicator) {
  int64_t steps[1] = {std::max<int64_t>(1, static_cast<int64_t>(seconds / per_step))};
  communicator.reduce({"block", -1}, steps, Reduction::kMin);
  return steps[0];
}

ExitCode bench(const MpiSession& session, const Arguments& arguments) {
  const auto control = make_control(session);
  const Config asked = shared_config(*control, arguments.config);
  ChosenDevice device = choose_device(session, *control, asked);
  const Config config = resolve_config(asked, device.fast_bf16);
  if (!arguments.dump.empty()) {
    dump_windows(config, arguments.dump);
    return ExitCode::kOk;
  }
  const RunData data(config);
  Workplace workplace(session, std::move(device), config, false, *make_log(session.rank()));
  const Parts parts = workplace.parts();
  Trainer trainer(parts, {train_options(config), optimizer_options(config), schedule_options(config), model_options(config), precision(config)});
  const auto source = data.train(config);
  BatchSource& batches = *source;
  trainer.initialise(workplace.threads());

  StepReport report = trainer.step(batches);
  const double start_up = process_age(), begin = now();
  while (trainer.progress().step < kWarmUp) report = trainer.step(batches);
  const int64_t steps = steps_for(arguments.seconds, (now() - begin) / static_cast<double>(kWarmUp - 1), parts.communicator);
  const double loss_after_warm_up = report.loss.cross_entropy;
  RouteBook routes = in_turn(config);
  trainer.runtime().use_routes(&routes);
  trainer.step(batches);  // whatever the other routes need for the first time
  std::vector<double> rates;
  Block all;
  parts.trace.clear();
  if (arguments.overlap) parts.trace.record(kEvents);
  for (int i = 0; i < arguments.blocks; ++i) {
    wait_for_turn(arguments.turns, i, session.rank());
    const Block block = timed_block(trainer, batches, parts.communicator, steps);
    rates.push_back(static_cast<double>(block.tokens) / block.seconds);
    all.routed += block.routed;
    all.dropped += block.dropped;
    all.seconds += block.seconds;
    all.steps += block.steps;
  }
  if (session.rank() != 0) return ExitCode::kOk;
  const std::vector<double> in_order = rates;
  std::sort(rates.begin(), rates.end());
  nlohmann::ordered_json line = {{"config", config_name(arguments.config.path)},
                                 {"precision", Config::Precision_Name(config.precision())},
                                 {"ranks", session.size()},
                                 {"threads", workplace.threads()},
                                 {"tokens_per_second_min", rates.front()},
                                 {"tokens_per_second", rates[rates.size() / 2]},
                                 {"tokens_per_second_max", rates.back()},
                                 {"blocks", in_order},
                                 {"loss_after_50", loss_after_warm_up},
                                 {"dropped", static_cast<double>(all.dropped) / static_cast<double>(std::max<int64_t>(1, all.routed))},
                                 {"peak_mib", peak_kib() / 1024},
                                 {"start_up_seconds", start_up}};
  for (int kind = 0; kind < kSpanKinds; ++kind) {
    line[std::string(name(static_cast<SpanKind>(kind))) + "_share"] = parts.trace.seconds(static_cast<SpanKind>(kind)) / all.seconds;
  }
  if (arguments.overlap) {
    add_overlap(parts.trace, config.parallel().overlap_chunks(), all.seconds / static_cast<double>(all.steps), all.steps, line);
  }
  fmt::print("{}\n", line.dump());
  return ExitCode::kOk;
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  using namespace switchyard;
  CLI::App program("Times the training step of a configuration.", "step");
  Arguments arguments;
  add_config_arguments(program, arguments.config);
  program.add_option("--blocks", arguments.blocks, "Timed blocks")->capture_default_str()->check(CLI::PositiveNumber);
  program.add_option("--seconds", arguments.seconds, "Of a block, about")->capture_default_str()->check(CLI::PositiveNumber);
  program.add_option("--turns", arguments.turns, "Before block i, make PATH.ready.i and sleep until PATH.go.i exists")->type_name("PATH");
  program.add_flag("--overlap", arguments.overlap, "Seconds and bytes of a trip of rows to the experts and back");
  program.add_option("--dump", arguments.dump, "Write the first windows to this file and stop")->type_name("FILE");
  CLI11_PARSE(program, argc, argv);
  return static_cast<int>(run_on_ranks([&](const MpiSession& session) { return bench(session, arguments); }));
}
