#include "src/report/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

namespace switchyard {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

template <class Line>
double place(const Line& line, const AxisUnit& unit) {
  switch (unit.axis) {
    case Axis::kSteps: return static_cast<double>(line.step) / unit.size;
    case Axis::kFlops: return line.flops / unit.size;
    case Axis::kSeconds: return line.seconds / unit.size;
  }
  return kNone;
}

template <class Line, class Value>
Series series_of(const std::vector<Line>& lines, const AxisUnit& unit, const Value& value) {
  Series series;
  for (const Line& line : lines) {
    series.x.push_back(place(line, unit));
    series.y.push_back(value(line));
  }
  return series;
}

template <class Lines, class Value>
std::vector<Series> series_of_runs(const std::vector<RunRecord>& runs, Lines RunRecord::*lines, const AxisUnit& unit, const Value& value) {
  std::vector<Series> result;
  for (size_t i = 0; i < runs.size(); ++i) {
    result.push_back(series_of(runs[i].*lines, unit, value));
    result.back().name = runs[i].name;
    result.back().style = static_cast<int>(i);
  }
  return result;
}

// Mean of the finite ones.
class Mean {
 public:
  void add(double value) {
    if (std::isfinite(value)) sum_ += value, count_ += 1;
  }
  double value() const { return count_ > 0 ? sum_ / count_ : kNone; }

 private:
  double sum_ = 0, count_ = 0;
};

size_t late_begin(const RunRecord& run, double share) {
  const size_t lines = run.steps.size();
  return lines - std::min(lines, std::max<size_t>(1, static_cast<size_t>(static_cast<double>(lines) * share)));
}

}  // namespace

AxisUnit axis_unit(Axis axis, const std::vector<RunRecord>& runs) {
  if (axis == Axis::kSteps) return {axis, "step", 1};
  double most = 0;
  for (const RunRecord& run : runs) {
    for (const StepMetrics& step : run.steps) most = std::fmax(most, axis == Axis::kFlops ? step.flops : step.seconds);
  }
  if (axis == Axis::kSeconds) {
    if (most < 300) return {axis, "training time (s)", 1};
    return most < 3 * 3600 ? AxisUnit{axis, "training time (min)", 60} : AxisUnit{axis, "training time (h)", 3600};
  }
  constexpr std::array<std::pair<const char*, double>, 5> kUnits = {{{"GFLOP", 1e9}, {"TFLOP", 1e12}, {"PFLOP", 1e15}, {"EFLOP", 1e18}, {"ZFLOP", 1e21}}};
  size_t unit = 0;
  while (unit + 1 < kUnits.size() && most >= kUnits[unit + 1].second) ++unit;
  return {axis, fmt::format("training compute ({})", kUnits[unit].first), kUnits[unit].second};
}

std::vector<Series> step_series(const std::vector<RunRecord>& runs, const AxisUnit& unit, const StepValue& value) {
  return series_of_runs(runs, &RunRecord::steps, unit, value);
}

std::vector<Series> heldout_series(const std::vector<RunRecord>& runs, const AxisUnit& unit, const HeldoutValue& value) {
  std::vector<Series> result = series_of_runs(runs, &RunRecord::heldout, unit, value);
  for (Series& series : result) series.markers = true;
  return result;
}

size_t moe_layers(const RunRecord& run) {
  size_t layers = 0;
  for (const StepMetrics& step : run.steps) layers = std::max(layers, step.layers.size());
  return layers;
}

std::vector<Series> layer_series(const RunRecord& run, const LayerValue& value) {
  std::vector<Series> result;
  for (size_t layer = 0; layer < moe_layers(run); ++layer) {
    result.push_back(series_of(run.steps, AxisUnit{}, [&](const StepMetrics& step) { return layer < step.layers.size() ? value(step.layers[layer]) : kNone; }));
    result.back().name = fmt::format("MoE layer {}", layer);
    result.back().style = static_cast<int>(layer);
  }
  return result;
}

double late_mean(const RunRecord& run, double share, const StepValue& value) {
  Mean mean;
  for (size_t i = late_begin(run, share); i < run.steps.size(); ++i) mean.add(value(run.steps[i]));
  return mean.value();
}

LayerFigures layer_figures(const RunRecord& run, size_t layer) {
  LayerFigures figures;
  std::vector<Mean> loads;
  Mean dropped, entropy, confidence;
  for (size_t i = late_begin(run, 0.1); i < run.steps.size(); ++i) {
    if (layer >= run.steps[i].layers.size()) continue;
    const LayerMetrics& metrics = run.steps[i].layers[layer];
    loads.resize(std::max(loads.size(), metrics.load.size()));
    for (size_t e = 0; e < metrics.load.size(); ++e) loads[e].add(metrics.load[e]);
    dropped.add(metrics.dropped);
    entropy.add(relative_entropy(metrics));
    confidence.add(metrics.confidence);
  }
  figures.experts = loads.size();
  double most = -1, least = std::numeric_limits<double>::infinity();
  for (size_t e = 0; e < loads.size(); ++e) {
    const double load = loads[e].value();
    if (load == 0) figures.unused.push_back(e);
    if (load > most) most = load, figures.busiest = e;
    if (load < least) least = load, figures.idlest = e;
  }
  figures.busiest_load = most < 0 ? kNone : most * static_cast<double>(loads.size());
  figures.idlest_load = most < 0 ? kNone : least * static_cast<double>(loads.size());
  figures.dropped = dropped.value();
  figures.entropy = entropy.value();
  figures.confidence = confidence.value();
  return figures;
}

double unused_experts(const LayerMetrics& layer) {
  if (layer.load.empty()) return kNone;
  return static_cast<double>(std::count(layer.load.begin(), layer.load.end(), 0.0));
}

double relative_entropy(const LayerMetrics& layer) { return layer.load.size() < 2 ? kNone : layer.entropy / std::log(static_cast<double>(layer.load.size())); }

// tokens_per_second is the step's tokens over its seconds.
double padding_fraction(const StepMetrics& step) {
  const double padding = static_cast<double>(step.padding_tokens), tokens = step.tokens_per_second * step.step_seconds;
  return padding > 0 ? padding / (padding + tokens) : 0;
}

std::vector<double> phase_seconds(const RunRecord& run) {
  std::array<Mean, kPhases.size()> means;
  for (const StepMetrics& step : run.steps) {
    const double known = step.all_to_all_seconds + step.gradient_sum_seconds;
    means[0].add(std::isfinite(step.compute_seconds) ? step.compute_seconds : std::fmax(0, step.step_seconds - known));
    means[1].add(step.all_to_all_seconds);
    means[2].add(step.gradient_sum_seconds);
    means[3].add(step.publish_seconds);
    means[4].add(step.control_seconds);
    means[5].add(step.input_seconds);
  }
  std::vector<double> seconds;
  for (const Mean& mean : means) seconds.push_back(mean.value());
  return seconds;
}

std::vector<std::string> shown_names(const std::vector<RunRecord>& runs) {
  std::map<std::string, int> times;
  for (const RunRecord& run : runs) ++times[run.name];
  std::vector<std::string> names;
  for (const RunRecord& run : runs) names.push_back(times[run.name] > 1 ? run.path : run.name);
  return names;
}

}  // namespace switchyard
