// Curves of all runs, time by phase, and what the experts of one run did.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "src/report/figures.h"
#include "src/report/heat_map.h"
#include "src/report/html.h"
#include "src/report/line_chart.h"
#include "src/report/sections.h"
#include "src/report/share_bars.h"

namespace switchyard {
namespace {

std::string legend_of(const std::vector<RunRecord>& runs) {
  std::vector<std::pair<int, std::string>> entries;
  for (size_t i = 0; i < runs.size(); ++i) entries.emplace_back(static_cast<int>(i), runs[i].name);
  return legend(entries);
}

bool any_finite(const std::vector<Series>& lines) {
  return std::any_of(lines.begin(), lines.end(),
                     [](const Series& series) { return std::any_of(series.y.begin(), series.y.end(), [](double value) { return std::isfinite(value); }); });
}

// The charts that are drawn over each axis.
std::string charts_over(Axis axis, const std::vector<RunRecord>& runs) {
  const AxisUnit unit = axis_unit(axis, runs);
  const auto chart = [&](const char* title, const char* y, std::vector<Series> series) {
    LineChart result;
    result.title = title, result.unit = y, result.x_label = unit.label;
    result.series = std::move(series);
    result.skip_start = true;
    return result;
  };
  LineChart loss = chart("Train loss", "nats per target", step_series(runs, unit, [](const StepMetrics& step) { return step.loss; }));
  loss.smooth = true;
  std::string html = to_html(loss);
  if (std::all_of(runs.begin(), runs.end(), [](const RunRecord& run) { return run.heldout.empty(); })) {
    return html + "<p class=\"none\">No evaluation on held-out text was logged; eval.every asks for some.</p>";
  }
  html += to_html(chart("Held-out loss", "nats per target", heldout_series(runs, unit, [](const HeldoutMetrics& heldout) { return heldout.loss; })));
  const std::vector<Series> bits = heldout_series(runs, unit, [](const HeldoutMetrics& heldout) { return heldout.bits_per_byte; });
  if (any_finite(bits)) html += to_html(chart("Held-out bits per byte", "", bits));
  LineChart accuracy = chart("Held-out accuracy", "targets that were the first choice",
                             heldout_series(runs, unit, [](const HeldoutMetrics& heldout) { return heldout.accuracy; }));
  accuracy.percent = true;
  accuracy.skip_start = false;
  return html + to_html(accuracy);
}

// A dense step drops and balances nothing: it has no such value.
double sparse(const StepMetrics& step, double value) { return step.layers.empty() ? std::numeric_limits<double>::quiet_NaN() : value; }

std::string steps_chart(const std::vector<RunRecord>& runs, const char* title, const char* unit, const StepValue& value, LineChart options) {
  options.title = title, options.unit = unit, options.x_label = "step";
  options.series = step_series(runs, axis_unit(Axis::kSteps, runs), value);
  return to_html(options);
}

std::string layers_chart(const RunRecord& run, const char* title, const char* unit, const LayerValue& value, LineChart options) {
  options.title = title, options.unit = unit, options.x_label = "step";
  options.series = layer_series(run, value);
  return to_html(options);
}

// Capacity, each layer by itself, and padding.
std::string dropped_chart(const RunRecord& run) {
  LineChart chart;
  chart.title = "Tokens that no expert saw", chart.unit = "dropped for capacity, by layer, and padding", chart.x_label = "step";
  chart.percent = chart.from_zero = chart.smooth = true;
  chart.series = layer_series(run, [](const LayerMetrics& layer) { return layer.dropped; });
  Series padding;
  padding.name = "padding";
  padding.style = static_cast<int>(chart.series.size());
  for (const StepMetrics& step : run.steps) padding.x.push_back(static_cast<double>(step.step)), padding.y.push_back(padding_fraction(step));
  chart.series.push_back(padding);
  return to_html(chart);
}

std::string heat_map_of(const RunRecord& run, size_t layer) {
  HeatMap map;
  map.title = fmt::format("Expert load, MoE layer {}", layer);
  for (const StepMetrics& step : run.steps) {
    map.steps.push_back(static_cast<double>(step.step));
    map.load.push_back(layer < step.layers.size() ? step.layers[layer].load : std::vector<double>{});
  }
  return to_html(map);
}

// "none", "2 of 8: 3, 5", "40 of 64: 0, 1, 2, 3, 4, 5, 6, 7, ..."
std::string unused_text(const LayerFigures& figures) {
  if (figures.unused.empty()) return "none";
  std::string text = fmt::format("{} of {}:", figures.unused.size(), figures.experts);
  for (size_t i = 0; i < std::min<size_t>(8, figures.unused.size()); ++i) text += fmt::format("{} {}", i == 0 ? "" : ",", figures.unused[i]);
  return figures.unused.size() > 8 ? text + ", ..." : text;
}

std::string layers_table(const RunRecord& run) {
  std::string html =
      "<div class=\"scroll\"><table><caption>over the last tenth of the lines</caption><thead><tr><th>MoE layer</th><th>experts</th><th>dead: no token chose "
      "them</th><th>least used</th><th>busiest</th>"
      "<th>dropped</th><th>entropy</th><th>confidence</th></tr></thead><tbody>";
  for (size_t layer = 0; layer < moe_layers(run); ++layer) {
    const LayerFigures figures = layer_figures(run, layer);
    html += fmt::format(
        "<tr><th>{}</th><td>{}</td><td{}>{}</td><td>{}: {} times the mean</td><td>{}: {} times the mean</td><td>{}</td><td>{} of ln E</td><td>{}</td></tr>",
        layer, figures.experts, figures.unused.empty() ? "" : " class=\"bad\"", unused_text(figures), figures.idlest, short_number(figures.idlest_load, 3),
        figures.busiest, short_number(figures.busiest_load, 3), percent_text(figures.dropped), percent_text(figures.entropy), percent_text(figures.confidence));
  }
  return html + "</tbody></table></div>";
}

std::string layers_legend(size_t layers) {
  std::vector<std::pair<int, std::string>> entries;
  for (size_t layer = 0; layer < layers; ++layer) entries.emplace_back(static_cast<int>(layer), fmt::format("MoE layer {}", layer));
  entries.emplace_back(static_cast<int>(layers), "padding");
  return legend(entries);
}

}  // namespace

std::string curves_section(const std::vector<RunRecord>& runs) {
  // The choice of the axis needs no program: hidden groups follow the marked button.
  constexpr std::array<std::pair<const char*, const char*>, 3> kAxes = {{{"steps", "steps"}, {"flops", "FLOPs"}, {"seconds", "seconds"}}};
  std::string html = "<section id=\"curves\"><h2>Curves</h2>" + legend_of(runs) + "<p class=\"axes\">drawn over</p>";
  for (const auto& [id, name] : kAxes) {
    html += fmt::format("<input type=\"radio\" name=\"axis\" id=\"axis-{0}\"{2}><label for=\"axis-{0}\">{1}</label>", id, name,
                        std::string(id) == "steps" ? " checked" : "");
  }
  for (size_t axis = 0; axis < kAxes.size(); ++axis) {
    html += fmt::format("<div class=\"charts over-{}\">{}</div>", kAxes[axis].first, charts_over(static_cast<Axis>(axis), runs));
  }
  html += "<h3>Over steps</h3><div class=\"charts\">";
  LineChart noisy;
  noisy.smooth = noisy.skip_start = noisy.log_if_wide = true;
  html += steps_chart(
      runs, "Gradient norm", "before clipping", [](const StepMetrics& step) { return step.gradient_norm; }, noisy);
  LineChart plain;
  plain.from_zero = true;
  html += steps_chart(
      runs, "Learning rate", "", [](const StepMetrics& step) { return step.learning_rate; }, plain);
  LineChart speed = plain;
  speed.smooth = true;
  html += steps_chart(
      runs, "Speed", "tokens per second", [](const StepMetrics& step) { return step.tokens_per_second; }, speed);
  if (std::any_of(runs.begin(), runs.end(), [](const RunRecord& run) { return moe_layers(run) > 0; })) {
    LineChart fraction = speed;
    fraction.percent = true;
    html += steps_chart(
        runs, "Dropped tokens", "found their expert full, all layers", [](const StepMetrics& step) { return sparse(step, step.dropped_fraction); }, fraction);
    LineChart balance = noisy;
    html += steps_chart(
        runs, "Balance loss", "with its coefficient, all layers", [](const StepMetrics& step) { return sparse(step, step.balance_loss); }, balance);
  }
  return html + "</div></section>";
}

std::string time_section(const std::vector<RunRecord>& runs) {
  ShareBars bars;
  bars.title = "Time of a step by phase, mean over the lines, rank 0", bars.unit = "milliseconds";
  bars.parts.assign(kPhases.begin(), kPhases.end());
  for (const RunRecord& run : runs) {
    ShareBar& bar = bars.bars.emplace_back(ShareBar{run.name, phase_seconds(run)});
    for (double& part : bar.parts) part *= 1000;
  }
  LineChart share;
  share.percent = share.from_zero = share.smooth = true;
  std::string html = "<section id=\"time\"><h2>Time</h2><div class=\"charts\">" + to_html(bars);
  html += steps_chart(
      runs, "Share of the all-to-all", "of a step's time", [](const StepMetrics& step) { return step.all_to_all_seconds / step.step_seconds; }, share);
  return html + "</div>" + legend_of(runs) + "</section>";
}

std::string experts_section(const RunRecord& run, bool open) {
  const size_t layers = moe_layers(run);
  if (layers == 0) return "";
  std::string html = fmt::format("<details class=\"run\"{}><summary><h3>{}</h3></summary>{}", open ? " open" : "", escape(run.name), layers_table(run));
  html += heat_legend() + "<div class=\"charts\">";
  for (size_t layer = 0; layer < layers; ++layer) html += heat_map_of(run, layer);
  html += "</div>" + layers_legend(layers) + "<div class=\"charts\">" + dropped_chart(run);
  LineChart plain;
  plain.smooth = plain.from_zero = plain.percent = true;
  html += layers_chart(run, "Router entropy", "of ln E: 100 % is indifferent, 0 % is certain", relative_entropy, plain);
  html += layers_chart(
      run, "Router confidence", "mean probability of the chosen expert", [](const LayerMetrics& layer) { return layer.confidence; }, plain);
  LineChart count;
  count.from_zero = count.whole = true;
  html += layers_chart(run, "Dead experts", "chosen by no token of the step", unused_experts, count);
  return html + "</div></details>";
}

}  // namespace switchyard
