#include "src/report/read_run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "src/base/error.h"

namespace switchyard {
namespace {

using nlohmann::json;

constexpr size_t kMaxLine = size_t{16} << 20;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double real(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number() ? found->get<double>() : kNone;
}

int64_t integer(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_integer()) return 0;
  if (found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return 0;
  return found->get<int64_t>();
}

std::string text(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// Calls `visit` for the elements of an array of the object, if it has one of that name.
template <class Visit>
void for_each(const json& object, const char* name, const Visit& visit) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_array()) return;
  for (const json& element : *found) visit(element);
}

LayerMetrics layer_of(const json& object) {
  LayerMetrics layer;
  if (!object.is_object()) return {{}, kNone, kNone, kNone};
  for_each(object, "load", [&](const json& load) { layer.load.push_back(load.is_number() ? load.get<double>() : kNone); });
  layer.dropped = real(object, "dropped");
  layer.entropy = real(object, "entropy");
  layer.confidence = real(object, "confidence");
  return layer;
}

StepMetrics step_of(const json& line) {
  StepMetrics step;
  const std::pair<double*, const char*> reals[] = {{&step.loss, "loss"},
                                                   {&step.tokens_per_second, "tokens_per_second"},
                                                   {&step.step_seconds, "step_seconds"},
                                                   {&step.gradient_norm, "gradient_norm"},
                                                   {&step.learning_rate, "learning_rate"},
                                                   {&step.balance_loss, "balance_loss"},
                                                   {&step.z_loss, "z_loss"},
                                                   {&step.dropped_fraction, "dropped_fraction"},
                                                   {&step.all_to_all_seconds, "all_to_all_seconds"},
                                                   {&step.gradient_sum_seconds, "gradient_sum_seconds"},
                                                   {&step.seconds, "seconds"},
                                                   {&step.flops, "flops"},
                                                   {&step.compute_seconds, "compute_seconds"},
                                                   {&step.publish_seconds, "publish_seconds"},
                                                   {&step.control_seconds, "control_seconds"},
                                                   {&step.input_seconds, "input_seconds"}};
  for (const auto& [value, name] : reals) *value = real(line, name);
  step.step = integer(line, "step");
  step.tokens = integer(line, "tokens");
  step.padding_tokens = integer(line, "padding_tokens");
  step.skips = integer(line, "skips");
  for_each(line, "layers", [&](const json& layer) { step.layers.push_back(layer_of(layer)); });
  return step;
}

HeldoutMetrics heldout_of(const json& line) {
  HeldoutMetrics heldout;
  heldout.step = integer(line, "step");
  heldout.tokens = integer(line, "tokens");
  heldout.seconds = real(line, "seconds");
  heldout.flops = real(line, "flops");
  heldout.loss = real(line, "heldout_loss");
  heldout.accuracy = real(line, "heldout_accuracy");
  heldout.bits_per_byte = real(line, "heldout_bits_per_byte");
  return heldout;
}

Alarm alarm_of(const json& line) {
  Alarm alarm;
  alarm.kind = text(line, "alarm");
  alarm.step = integer(line, "step");
  const int64_t layer = integer(line, "layer");
  alarm.layer = layer >= 0 && layer < 1 << 20 ? static_cast<int>(layer) : -1;
  for_each(line, "experts", [&](const json& expert) { alarm.experts.push_back(expert.is_number_integer() ? static_cast<int>(expert.get<int64_t>()) : -1); });
  alarm.value = real(line, "value");
  alarm.sentence = text(line, "sentence");
  return alarm;
}

// Takes one line; false where it is none that a run writes, or goes back.
bool take_line(const std::string& line, RunRecord& run) {
  const json value = json::parse(line, nullptr, false);
  if (!value.is_object() || integer(value, "step") <= 0) return false;
  const std::string kind = text(value, "kind");
  if (kind == "heldout") {
    run.heldout.push_back(heldout_of(value));
  } else if (kind == "alarm") {
    run.alarms.push_back(alarm_of(value));
  } else if (kind.empty()) {
    StepMetrics step = step_of(value);
    if (!run.steps.empty() && step.step <= run.steps.back().step) return false;
    run.steps.push_back(std::move(step));
  }
  return true;
}

// "1 line" or "3 lines".
std::string lines_text(int64_t count) { return fmt::format("{} line{}", count, count == 1 ? "" : "s"); }

void read_metrics(const std::string& file, RunRecord& run) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error(ExitCode::kInputOutput, fmt::format("cannot read {}; check the permissions", file));
  int64_t refused = 0;
  std::string line;
  std::streambuf& bytes = *stream.rdbuf();
  for (int byte = bytes.sbumpc(); byte != std::streambuf::traits_type::eof(); byte = bytes.sbumpc()) {
    if (byte != 0x0A) {
      line += static_cast<char>(byte);
      if (line.size() > kMaxLine)
        throw Error(ExitCode::kData, fmt::format("{} has a line of more than {} bytes, so no training wrote it; move it away", file, kMaxLine));
      continue;
    }
    refused += take_line(line, run) ? 0 : 1;
    line.clear();
  }
  if (!line.empty())
    run.notes.push_back("the last line of metrics.jsonl is incomplete and was left out: the run is being written at this moment, or was cut off");
  if (refused > 0) run.notes.push_back(fmt::format("{} of metrics.jsonl hold no metrics, or repeat a step, and were left out", lines_text(refused)));
}

// Whether a training has locked the run: a lock of its process is in the way of one that is only asked about.
bool is_locked(const std::string& path) {
  const int file = ::open((path + "/run.lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (file < 0) return false;
  struct flock whole {};
  whole.l_type = F_RDLCK;
  whole.l_whence = SEEK_SET;
  const bool locked = ::fcntl(file, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
  ::close(file);
  return locked;
}

// Each logged step stands for those since the one before it.
void complete_seconds(RunRecord& run) {
  double seconds = 0;
  int64_t last = 0;
  for (StepMetrics& step : run.steps) {
    seconds += (std::isfinite(step.step_seconds) ? step.step_seconds : 0) * static_cast<double>(step.step - last);
    last = step.step;
    if (std::isfinite(step.seconds)) {
      seconds = step.seconds;
    } else {
      step.seconds = seconds;
      run.estimated_seconds = true;
    }
  }
  if (run.estimated_seconds) run.notes.push_back("its lines hold no running time; seconds were estimated from the steps that were logged");
}

}  // namespace

RunRecord read_run(const std::string& path) {
  if (!std::filesystem::is_directory(path))
    throw Error(ExitCode::kInputOutput, fmt::format("{} is no directory; name the --run directory of a training", path));
  RunRecord run;
  run.path = path;
  std::filesystem::path folder = std::filesystem::path(path).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  run.name = folder.filename().string();
  if (run.name.empty() || run.name == "." || run.name == "..") run.name = std::filesystem::absolute(folder).lexically_normal().filename().string();
  const std::string file = path + "/metrics.jsonl";
  if (std::filesystem::is_regular_file(file)) {
    read_metrics(file, run);
  } else if (!std::filesystem::exists(path + "/config.textproto")) {
    throw Error(ExitCode::kData,
                fmt::format("{} holds no run: neither metrics.jsonl nor config.textproto is there; name the --run directory of a training", path));
  }
  run.running = is_locked(path);
  if (run.steps.empty()) run.notes.push_back("no step has been logged yet");
  complete_seconds(run);
  return run;
}

void complete_flops(RunRecord& run, double flops_per_token) {
  run.flops_per_token = flops_per_token;
  for (StepMetrics& step : run.steps) {
    if (!std::isfinite(step.flops) && flops_per_token > 0) step.flops = flops_per_token * static_cast<double>(step.tokens);
  }
}

}  // namespace switchyard
