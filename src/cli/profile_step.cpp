// switchyard profile step: where the time of a configuration's training step goes, and what it would be on other links.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "comm/agree.h"
#include "comm/link_file.h"
#include "src/cli/app.h"
#include "src/cli/profile.h"
#include "src/cli/run_data.h"
#include "src/cli/workplace.h"
#include "src/config/build.h"
#include "src/data/file.h"
#include "src/profile/step_report.h"
#include "src/report/trace_json.h"
#include "src/train/trainer.h"

namespace switchyard {
namespace {

constexpr Call kCall{"profile", -1};
constexpr int64_t kMostEvents = int64_t{1} << 20, kUsualCalls = 4096;

struct Arguments {
  ConfigArguments config;
  int64_t steps = 10, warm_up = 3;
  int overhead = 0, ranks_per_host = 0;
  std::string trace = "trace.json", matrix, link;
  bool json = false;
};

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// The training of a configuration, seen through a recorder.
struct Watched {
  Watched(Workplace& workplace, const Config& config, const RunData& data)
      : inner(workplace.parts()),
        recorder(inner.communicator, inner.trace),
        trainer({inner.backend, recorder, inner.grid, inner.trace},
                {train_options(config), optimizer_options(config), schedule_options(config), model_options(config), precision(config)}),
        batches(data.train(config)) {
    trainer.initialise(workplace.threads());
  }

  Parts inner;
  Recorder recorder;
  Trainer trainer;
  std::unique_ptr<BatchSource> batches;
};

void run_steps(Watched& watched, int64_t steps) {
  for (int64_t i = 0; i < steps; ++i) watched.trainer.step(*watched.batches);
}

// Steps under watch; each one's stay, and seconds of one by a clock around all of them.
double watch_steps(Watched& watched, int64_t count, std::vector<Stay>& steps) {
  Trace& trace = watched.inner.trace;
  trace.record(kMostEvents);
  watched.recorder.start(kUsualCalls);
  watched.inner.communicator.barrier(kCall);
  const Clock::time_point begin = Clock::now();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin_ns = trace.now_ns();
    watched.trainer.step(*watched.batches);
    steps.push_back({begin_ns, trace.now_ns()});
  }
  const double seconds = seconds_since(begin);
  watched.recorder.stop();
  return seconds / static_cast<double>(count);
}

// The median over pairs of blocks in turns of seconds with the watch over seconds without, minus 1.
double watching_costs(Watched& watched, int64_t steps, int pairs) {
  std::vector<double> ratios;
  const auto block = [&](bool on) {
    watched.inner.trace.record(on ? kMostEvents : 0);
    if (on) watched.recorder.start(kUsualCalls);
    watched.inner.communicator.barrier(kCall);
    const Clock::time_point begin = Clock::now();
    run_steps(watched, steps);
    watched.inner.communicator.barrier(kCall);
    watched.recorder.stop();
    return seconds_since(begin);
  };
  for (int pair = 0; pair < pairs; ++pair) {
    const bool first = pair % 2 == 0;  // which of the two begins changes, too
    const double one = block(first), other = block(!first);
    ratios.push_back(first ? one / other : other / one);
  }
  return times_of(ratios).p50 - 1;
}

void write_files(const Arguments& arguments, const std::vector<Timeline>& timelines, const StepProfile& profile) {
  if (!arguments.matrix.empty()) {
    OutputFile file(arguments.matrix);
    file.append(matrix_text(profile.exchange, profile.steps));
    file.commit();
  }
  if (arguments.trace.empty()) return;
  int64_t origin = timelines[0].steps[0].begin_ns;
  for (const Timeline& timeline : timelines) origin = std::min(origin, timeline.steps[0].begin_ns);
  std::vector<std::string> texts;
  for (const Timeline& timeline : timelines) texts.push_back(step_trace(timeline, arguments.warm_up, origin));
  write_trace(arguments.trace, texts);
}

// The mean of a number of every rank.
double mean_of_ranks(Communicator& control, double mine) {
  int64_t nanoseconds[1] = {static_cast<int64_t>(mine * 1e9)};
  control.reduce(kCall, nanoseconds, Reduction::kSum);
  return static_cast<double>(nanoseconds[0]) * 1e-9 / control.size();
}

ExitCode profile(const MpiSession& session, const Arguments& arguments) {
  const auto control = make_control(session);
  const Config asked = shared_config(*control, arguments.config);
  ChosenDevice device = choose_device(session, *control, asked);
  const Config config = resolve_config(asked, device.fast_bf16);
  std::optional<LinkFile> link;
  if (!arguments.link.empty()) link = shared_link_file(*control, arguments.link);
  RunData data;
  agree_on(*control, {"data", -1}, [&] { data = RunData(config); });
  Workplace workplace(session, std::move(device), config, false, *make_log(session.rank()));
  Watched watched(workplace, config, data);
  run_steps(watched, arguments.warm_up);
  std::vector<Stay> steps;
  const double seconds = watch_steps(watched, arguments.steps, steps);
  const Timeline mine = make_timeline(watched.inner.trace, watched.recorder, steps);
  agree_on(*control, kCall, [&] {
    if (watched.inner.trace.dropped_events() == 0) return;
    throw Error(ExitCode::kUsage, fmt::format("{} steps have more than {} spans; watch fewer --steps", arguments.steps, kMostEvents));
  });

  StepHead head;
  head.program = fmt::format("switchyard {}", kVersion);
  head.config = arguments.config.path;
  head.transport = workplace.transport();
  head.threads = workplace.threads();
  head.hosts = numbered_hosts(session);
  head.warm_up = arguments.warm_up;
  head.measured_seconds = mean_of_ranks(*control, seconds);
  head.link = arguments.link;
  head.link_hosts = pretended_hosts(head.hosts, arguments.ranks_per_host > 0 || !link ? arguments.ranks_per_host : link->ranks_per_host);
  const std::vector<Timeline> timelines = gather_timelines(*control, mine, clock_offset(*control, watched.inner.trace));
  if (arguments.overhead > 0) head.overhead = watching_costs(watched, arguments.steps, arguments.overhead);
  agree_on(*control, kCall, [&] {
    if (session.rank() != 0) return;
    const StepProfile result = profile_steps(timelines, head.link_hosts, link ? std::optional(link->model) : std::nullopt);
    write_files(arguments, timelines, result);
    const std::string text = arguments.json ? step_json(head, result) : step_text(head, result);
    std::fwrite(text.data(), 1, text.size(), stdout);
  });
  return ExitCode::kOk;
}

}  // namespace

void add_profile_step(CLI::App& program, Commands& commands) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App& command = *program.add_subcommand("step", "Where the time of a configuration's training step goes; writes trace.json for Perfetto");
  add_config_arguments(command, arguments->config);
  command.add_option("--steps", arguments->steps, "Steps that are watched")->capture_default_str()->check(CLI::Range(int64_t{1}, int64_t{100000}));
  command.add_option("--warm-up", arguments->warm_up, "Steps before them")->capture_default_str()->check(CLI::Range(int64_t{1}, int64_t{100000}));
  command.add_option("--trace", arguments->trace, "Trace of all ranks, for Perfetto or chrome://tracing; '' for none")
      ->capture_default_str()
      ->type_name("FILE");
  command.add_option("--matrix", arguments->matrix, "Write the bytes of dispatch and combine between all pairs, for alltoall --pattern matrix:FILE")
      ->type_name("FILE");
  command.add_option("--link", arguments->link, "What if: the same step over the links of this file")->type_name("FILE");
  command.add_option("--ranks-per-host", arguments->ranks_per_host, "What if so many ranks shared a host (default: the link file's, or as they are)")
      ->check(CLI::Range(1, 1 << 20));
  command.add_option("--overhead", arguments->overhead, "Also time so many pairs of blocks of steps with and without watching")->check(CLI::Range(1, 1000));
  command.add_flag("--json", arguments->json, "Print one JSON object");
  commands.push_back({&command, [arguments] { return run_on_ranks([&](const MpiSession& session) { return profile(session, *arguments); }); }, true});
}

}  // namespace switchyard
