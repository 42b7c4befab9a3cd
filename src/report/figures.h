// From what runs have written to what charts show: series over an axis, and the figures of tables.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/report/line_chart.h"
#include "src/report/read_run.h"

namespace switchyard {

// What curves are drawn over.
enum class Axis : uint8_t { kSteps, kFlops, kSeconds };

// The unit in which all of `runs` are shown, and its label: "training compute (TFLOP)".
struct AxisUnit {
  Axis axis = Axis::kSteps;
  std::string label;
  double size = 1;
};
AxisUnit axis_unit(Axis axis, const std::vector<RunRecord>& runs);

// One series for each run, of the run's style, with one point for each of its lines of that kind.
using StepValue = std::function<double(const StepMetrics&)>;
using HeldoutValue = std::function<double(const HeldoutMetrics&)>;
std::vector<Series> step_series(const std::vector<RunRecord>& runs, const AxisUnit& unit, const StepValue& value);
std::vector<Series> heldout_series(const std::vector<RunRecord>& runs, const AxisUnit& unit, const HeldoutValue& value);

// One series for each MoE layer of one run, over steps.
using LayerValue = std::function<double(const LayerMetrics&)>;
std::vector<Series> layer_series(const RunRecord& run, const LayerValue& value);
// MoE layers of the run; 0 for a dense model.
size_t moe_layers(const RunRecord& run);

// The mean over the finite values of the last `share` of the lines, one line at least; NaN where there is none.
double late_mean(const RunRecord& run, double share, const StepValue& value);

// One layer over the last tenth of the lines.
struct LayerFigures {
  size_t experts = 0;
  std::vector<size_t> unused;  // experts
  size_t busiest = 0, idlest = 0;
  double busiest_load = 0, idlest_load = 0;         // in multiples of the mean
  double dropped = 0, entropy = 0, confidence = 0;  // entropy: of ln E; confidence NaN where the run has none
};
LayerFigures layer_figures(const RunRecord& run, size_t layer);

// Experts that no token chose; NaN where the loads are not known.
double unused_experts(const LayerMetrics& layer);
// Entropy as a fraction of ln E.
double relative_entropy(const LayerMetrics& layer);
// Padding as a fraction of all places of the step's micro-batches.
double padding_fraction(const StepMetrics& step);

// The seconds of a step by phase, means over all lines, in this order.
inline constexpr std::array<const char*, 6> kPhases = {"compute", "all-to-all", "gradient sum", "publish", "control", "input"};
std::vector<double> phase_seconds(const RunRecord& run);

// Names under which runs are shown: the folder's, or the whole path where two folders have one name.
std::vector<std::string> shown_names(const std::vector<RunRecord>& runs);

}  // namespace switchyard
