#include "src/train/run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>

#include "comm/agree.h"
#include "src/report/read_run.h"
#include "src/report/trace_json.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double wall_time() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

void make_directory(const std::string& path) {
  std::error_code failed;
  std::filesystem::create_directories(path, failed);
  if (failed)
    throw Error(ExitCode::kInputOutput, fmt::format("cannot create {}: {}; check the room on the disk and whose the folder is", path, failed.message()));
}

void remove_directory(const std::string& path) {
  std::error_code failed;
  std::filesystem::remove_all(path, failed);
  if (failed) throw Error(ExitCode::kInputOutput, fmt::format("cannot remove {}: {}; remove it, or begin in another --run directory", path, failed.message()));
}

// Runs `work` on rank 0 and turns its failure into a value, so that the rank stays in step with the others.
std::optional<Error> attempt(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

// With the names of metrics.jsonl.
std::vector<std::pair<std::string, double>> payload_errors(const LayerReport& layer) {
  std::vector<std::pair<std::string, double>> errors;
  for (size_t i = 0; i < layer.payload_error.size(); ++i) {
    std::string way = name(static_cast<Way>(i));
    std::replace(way.begin(), way.end(), ' ', '_');
    errors.emplace_back(std::move(way), layer.payload_error[i]);
  }
  return errors;
}

std::string sentence_of(const PayloadFallback& fallback, int64_t step) {
  return fmt::format(
      "step {}: {} of MoE layer {} lost {:.3g} of its rows' root mean square to compression, and model.moe.payload.error_bound is {:g}: "
      "these rows travel uncompressed from now on",
      step, name(fallback.way), fallback.layer, fallback.error, fallback.bound);
}

}  // namespace

std::string best_directory(const std::string& run) { return run + "/best"; }

Run::Run(Trainer& trainer, BatchSource& batches, EvaluationSource* heldout, RunDirectory* directory, RunOptions options, const std::atomic<bool>& stop, Say say)
    : trainer_(trainer), batches_(batches), heldout_(heldout), directory_(directory), options_(std::move(options)), stop_(stop), say_(std::move(say)) {}

void Run::start(bool resume, int threads) {
  Communicator& communicator = trainer_.runtime().parts().communicator;
  std::optional<LoadedCheckpoint> loaded;
  if (resume) {
    State state = trainer_.state();
    loaded = load_checkpoint(communicator, options_.directory, state, {.quarantine = true});
  }
  if (loaded) {
    trainer_.resume({loaded->info.step, loaded->info.skips, loaded->info.tokens});
    saved_step_ = loaded->info.step;
    best_ = loaded->info.best;
  } else {
    trainer_.initialise(threads);
  }
  first_step_ = trainer_.progress().step;
  agree_on(communicator, {"start", -1}, [&] {
    if (!first_rank()) return;
    if (loaded) {
      for (const std::string& warning : loaded->warnings) say_(warning);
      say_(fmt::format("resumed from {} at step {}, state digest {}", loaded->directory, loaded->info.step, loaded->state_digest));
    } else if (resume) {
      say_(fmt::format("{} has no checkpoint yet: starting at step 0", options_.directory));
      remove_directory(best_directory(options_.directory));  // it may be of another configuration
    }
    directory_->cut_metrics(first_step_);
    directory_->store_config(options_.info.config);
    const RunRecord before = read_run(options_.directory);
    seconds_ = before.steps.empty() ? 0 : before.steps.back().seconds;
    alarms_ = std::make_unique<Alarms>(options_.alarms, before.alarms);
    metrics_ = std::make_unique<MetricsWriter>(options_.directory);
    events_ = std::make_unique<EventWriter>(options_.directory, first_step_, wall_time());
    progress_ = std::make_unique<Progress>(stderr, isatty(STDERR_FILENO) != 0, options_.steps);
  });
}

ExitCode Run::train() {
  Trace& trace = trainer_.runtime().parts().trace;
  if (options_.trace) trace.record(int64_t{1} << 20);
  const Clock::time_point begin = Clock::now();
  bool stopped = false;
  while (!stopped && !finished()) {
    trace.clear();
    const Clock::time_point step_begin = Clock::now();
    const StepReport report = trainer_.step(batches_);
    const double seconds = seconds_since(step_begin);
    seconds_ += seconds;
    const std::optional<Error> failure = attempt([&] { report_step(report, seconds, seconds_since(begin)); });
    stopped = agree_on_step(failure);
    if (evaluation_due()) evaluate_heldout();
    if (stopped || due(options_.checkpoint_every)) save();
  }
  if (trainer_.progress().step != saved_step_) save();
  if (options_.trace) write_trace_file();
  if (first_rank()) progress_->finish();
  return stopped && !finished() ? ExitCode::kPreempted : ExitCode::kOk;
}

// One small integer collective in a good step; the sentence travels only when there is one.
bool Run::agree_on_step(const std::optional<Error>& mine) {
  Communicator& communicator = trainer_.runtime().parts().communicator;
  int64_t flags[2] = {stop_.load() ? 1 : 0, mine ? 1 : 0};
  communicator.reduce({"end of step", -1}, flags, Reduction::kOr);
  if (flags[1] != 0) agree(communicator, mine, {"step", -1});
  return flags[0] != 0;
}

StepMetrics Run::metrics(const StepReport& report, double seconds) const {
  const Trace& trace = trainer_.runtime().parts().trace;
  StepMetrics metrics;
  metrics.step = report.step + 1;
  metrics.loss = report.loss.cross_entropy;
  metrics.tokens = trainer_.progress().tokens;
  metrics.tokens_per_second = static_cast<double>(report.counts.tokens) / seconds;
  metrics.step_seconds = seconds;
  metrics.gradient_norm = report.gradient_norm;
  metrics.learning_rate = report.learning_rate;
  metrics.balance_loss = report.loss.balance;
  metrics.z_loss = report.loss.router_z;
  metrics.all_to_all_seconds = trace.seconds(SpanKind::kAllToAll);
  metrics.gradient_sum_seconds = trace.seconds(SpanKind::kGradientSum);
  int64_t asked = 0, dropped = 0;
  for (const LayerReport& layer : report.layers) {
    metrics.layers.push_back({layer.load(), layer.dropped_fraction(), layer.entropy, layer.confidence, payload_errors(layer)});
    asked += layer.asked;
    dropped += layer.dropped;
  }
  metrics.dropped_fraction = static_cast<double>(dropped) / static_cast<double>(std::max<int64_t>(1, asked));
  metrics.seconds = seconds_;
  metrics.flops = options_.flops_per_token * static_cast<double>(metrics.tokens);
  metrics.padding_tokens = options_.places - report.counts.tokens;
  metrics.skips = trainer_.progress().skips;
  metrics.publish_seconds = trace.seconds(SpanKind::kPublish);
  metrics.control_seconds = trace.seconds(SpanKind::kControl);
  metrics.input_seconds = trace.seconds(SpanKind::kInput);
  // Spans of layers hold those of their exchanges, so compute is what no other phase took.
  const double others = metrics.all_to_all_seconds + metrics.gradient_sum_seconds + metrics.publish_seconds + metrics.control_seconds + metrics.input_seconds;
  metrics.compute_seconds = std::max(0.0, seconds - others);
  return metrics;
}

void Run::report_step(const StepReport& report, double seconds, double elapsed_seconds) {
  if (!first_rank()) return;
  if (!report.applied) {
    progress_->finish();
    say_(fmt::format("step {}: loss {} or gradient norm {} is not finite; the update is skipped on every rank", report.step + 1, report.loss.total(),
                     report.gradient_norm));
  }
  for (const PayloadFallback& fallback : report.fallbacks) {
    progress_->finish();
    say_(sentence_of(fallback, report.step + 1));
  }
  give_alarms(report);
  if (!due(options_.log_every) && trainer_.progress().step != options_.steps) return;
  const StepMetrics line = metrics(report, seconds);
  metrics_->write(line);
  events_->write(line.step, wall_time(), scalars_of(line));
  progress_->show(line, trainer_.progress().step - first_step_, elapsed_seconds);
}

void Run::give_alarms(const StepReport& report) {
  std::vector<RouterCounts> layers;
  for (const LayerReport& layer : report.layers) layers.push_back({layer.requested, layer.tokens, layer.asked, layer.dropped, layer.entropy});
  for (const Alarm& alarm : alarms_->observe(report.step + 1, report.applied, layers)) {
    progress_->finish();
    say_("alarm: " + alarm.sentence);
    metrics_->write(alarm);
    events_->write(alarm.step, wall_time(), scalars_of(alarm));
  }
}

bool Run::evaluation_due() const {
  const int64_t step = trainer_.progress().step;
  const bool epoch_end = std::binary_search(options_.epoch_ends.begin(), options_.epoch_ends.end(), step);
  return heldout_ != nullptr && (due(options_.evaluate_every) || epoch_end || step == options_.steps);
}

// The report is the same bits on every rank, so all decide alike which evaluation is the best and when to end.
void Run::evaluate_heldout() {
  const EvaluationReport report = evaluate(trainer_.runtime(), *heldout_);
  agree_on(trainer_.runtime().parts().communicator, {"held-out", -1}, [&] { report_heldout(report); });
  ++best_.since;
  const bool better = std::isfinite(report.loss()) && (best_.step == 0 || report.loss() < best_.loss);
  if (better) best_ = {trainer_.progress().step, report.loss(), 0};
  if (better && options_.keep_best) save_best();
  if (!out_of_patience() || !first_rank()) return;
  say_(fmt::format("no better held-out loss than {:.4f} at step {} in {} evaluations: the run ends", best_.loss, best_.step, best_.since));
}

void Run::report_heldout(const EvaluationReport& report) {
  if (!first_rank()) return;
  progress_->finish();
  const int64_t step = trainer_.progress().step;
  const auto epoch = std::lower_bound(options_.epoch_ends.begin(), options_.epoch_ends.end(), step);
  const bool epoch_end = epoch != options_.epoch_ends.end() && *epoch == step;
  std::string text = fmt::format("step {}", step);
  if (epoch_end) text += fmt::format(", epoch {} of {}", epoch - options_.epoch_ends.begin() + 1, options_.epoch_ends.size());
  text += fmt::format(": held-out loss {:.4f}", report.loss());
  if (report.classes.empty()) text += fmt::format(", perplexity {:.2f}", report.perplexity());
  text += fmt::format(", accuracy {:.4f}", report.accuracy());
  if (!report.classes.empty()) text += fmt::format(", macro F1 {:.4f}", report.macro_f1());
  if (report.classes.empty() && options_.whole_heldout) text += fmt::format(", bits per byte {:.4f}", report.bits_per_byte(options_.heldout_bytes));
  say_(text);
  const bool is_text = report.classes.empty() && options_.whole_heldout;
  const double tokens = static_cast<double>(trainer_.progress().tokens), none = std::numeric_limits<double>::quiet_NaN();
  const HeldoutMetrics line{step,
                            trainer_.progress().tokens,
                            seconds_,
                            options_.flops_per_token * tokens,
                            report.loss(),
                            report.accuracy(),
                            is_text ? report.bits_per_byte(options_.heldout_bytes) : none};
  metrics_->write(line);
  events_->write(step, wall_time(), scalars_of(line));
}

StateInfo Run::info() const {
  StateInfo info = options_.info;
  const Trainer::Progress& progress = trainer_.progress();
  info.step = progress.step;
  info.cursor = progress.step;
  info.skips = progress.skips;
  info.tokens = progress.tokens;
  info.best = best_;
  return info;
}

void Run::save() {
  Communicator& communicator = trainer_.runtime().parts().communicator;
  Span span(trainer_.runtime().parts().trace, SpanKind::kFile, "checkpoint");
  const SavedCheckpoint saved = save_checkpoint(communicator, options_.directory, trainer_.state(), info(), {.keep = options_.keep});
  saved_step_ = trainer_.progress().step;
  if (!first_rank()) return;
  progress_->finish();
  say_(fmt::format("saved {}, state digest {}", saved.directory, saved.state_digest));
}

// Only what eval, predict and generate read: a run is resumed from its newest checkpoint.
void Run::save_best() {
  Communicator& communicator = trainer_.runtime().parts().communicator;
  Span span(trainer_.runtime().parts().trace, SpanKind::kFile, "best checkpoint");
  const std::string directory = best_directory(options_.directory);
  agree_on(communicator, {"best checkpoint", -1}, [&] {
    if (first_rank()) make_directory(directory);
  });
  State state = trainer_.state();
  std::erase_if(state, [](const StateTensor& tensor) { return tensor.name.starts_with(kOptimizerPrefix); });
  const SavedCheckpoint saved = save_checkpoint(communicator, directory, state, info(), {.keep = 1});
  if (first_rank()) say_(fmt::format("best so far: saved {}", saved.directory));
}

// Every rank's events become text at home and travel to rank 0 as bytes.
void Run::write_trace_file() {
  const Parts& parts = trainer_.runtime().parts();
  std::string text = trace_events(parts.grid.rank(), parts.trace.events(), 0);
  text.resize((text.size() + 3) / 4 * 4, ' ');
  std::vector<int64_t> words(static_cast<size_t>(parts.grid.size()), 0);
  words[static_cast<size_t>(parts.grid.rank())] = static_cast<int64_t>(text.size() / 4);
  parts.communicator.reduce({"trace sizes", -1}, words, Reduction::kSum);
  int64_t total = 0;
  for (int64_t count : words) total += count;
  std::string all(static_cast<size_t>(total) * 4, ' ');
  parts.communicator.all_gather({"trace", -1}, Tensor(text.data(), Dtype::kI32, {static_cast<int64_t>(text.size() / 4)}),
                                Tensor(all.data(), Dtype::kI32, {total}), words);
  agree_on(parts.communicator, {"trace", -1}, [&] {
    if (!first_rank()) return;
    std::vector<std::string> ranks;
    size_t begin = 0;
    for (int64_t count : words) {
      ranks.push_back(all.substr(begin, static_cast<size_t>(count) * 4));
      begin += static_cast<size_t>(count) * 4;
    }
    write_trace(options_.directory + "/trace.json", ranks);
  });
}

}  // namespace switchyard
