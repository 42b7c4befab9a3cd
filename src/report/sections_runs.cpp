// Key figures, alarms, notes and configurations.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "src/report/figures.h"
#include "src/report/html.h"
#include "src/report/sections.h"

namespace switchyard {
namespace {

// One figure of a run: its name, what it means, its value as text.
struct Figure {
  std::string name, meaning, value;
};

std::string state_of(const RunRecord& run) {
  const int64_t step = run.steps.empty() ? 0 : run.steps.back().step;
  const std::string steps = run.planned_steps > 0
                                ? fmt::format("{} of {}", short_number(static_cast<double>(step)), short_number(static_cast<double>(run.planned_steps)))
                                : short_number(static_cast<double>(step));
  if (run.running) return steps + ", running";
  return run.planned_steps > 0 && step < run.planned_steps ? steps + ", stopped" : steps;
}

// Of the last evaluation that has the value.
double last_heldout(const RunRecord& run, double HeldoutMetrics::*value) {
  for (size_t i = run.heldout.size(); i-- > 0;) {
    if (std::isfinite(run.heldout[i].*value)) return run.heldout[i].*value;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

double best_heldout_loss(const RunRecord& run) {
  double best = std::numeric_limits<double>::quiet_NaN();
  for (const HeldoutMetrics& heldout : run.heldout) best = std::fmin(best, heldout.loss);
  return best;
}

std::vector<Figure> figures_of(const RunRecord& run) {
  const StepMetrics last = run.steps.empty() ? StepMetrics{} : run.steps.back();
  const std::vector<double> phases = phase_seconds(run);
  const double step_seconds = late_mean(run, 1, [](const StepMetrics& step) { return step.step_seconds; });
  std::vector<Figure> figures = {
      {"steps", "done, of those that were planned", state_of(run)},
      {"train loss", "nats per target, mean of the last twentieth of the lines",
       short_number(late_mean(run, 0.05, [](const StepMetrics& step) { return step.loss; }))},
      {"held-out loss", "nats per target, last evaluation", short_number(last_heldout(run, &HeldoutMetrics::loss))},
      {"best held-out loss", "the lowest of all evaluations", short_number(best_heldout_loss(run))},
      {"bits per byte", "of the held-out text, last evaluation", short_number(last_heldout(run, &HeldoutMetrics::bits_per_byte))},
      {"accuracy", "on the hold-out, last evaluation", percent_text(last_heldout(run, &HeldoutMetrics::accuracy))},
      {"tokens", "trained on", short_number(static_cast<double>(last.tokens))},
      {"compute", "of training, by the formulas of switchyard summary", run.steps.empty() ? "–" : flops_text(last.flops)},
      {"training time", run.estimated_seconds ? "seconds of all steps, estimated" : "seconds of all steps, without evaluations and checkpoints",
       run.steps.empty() ? "–" : duration_text(last.seconds)},
      {"tokens/s", "tokens over training time", run.steps.empty() ? "–" : short_number(std::round(static_cast<double>(last.tokens) / last.seconds))},
      {"all-to-all", "share of a step's time on rank 0", percent_text(phases[1] / step_seconds)},
      {"dropped", "tokens that found no place, last tenth of the lines",
       moe_layers(run) == 0 ? "dense" : percent_text(late_mean(run, 0.1, [](const StepMetrics& step) { return step.dropped_fraction; }))},
      {"skipped updates", "steps whose loss or gradient was not finite", std::to_string(last.skips)},
      {"alarms", "see below", std::to_string(run.alarms.size())}};
  return figures;
}

std::string cards(const RunRecord& run) {
  std::string html = "<dl class=\"cards\">";
  for (const Figure& figure : figures_of(run)) {
    html += fmt::format("<div><dt title=\"{}\">{}</dt><dd>{}</dd></div>", escape(figure.meaning), escape(figure.name), escape(figure.value));
  }
  return html + "</dl>";
}

std::string field_table(const std::vector<RunRecord>& runs, const std::vector<std::string>& fields,
                        const std::vector<std::map<std::string, std::string>>& values) {
  std::string html = "<div class=\"scroll\"><table><thead><tr><th>field</th>";
  for (const RunRecord& run : runs) html += fmt::format("<th>{}</th>", escape(run.name));
  html += "</tr></thead><tbody>";
  for (const std::string& field : fields) {
    html += fmt::format("<tr><th><code>{}</code></th>", escape(field));
    for (const auto& value : values) {
      const auto found = value.find(field);
      html += fmt::format("<td>{}</td>", found == value.end() ? "–" : escape(found->second));
    }
    html += "</tr>";
  }
  return html + "</tbody></table></div>";
}

}  // namespace

std::string key_figures_section(const std::vector<RunRecord>& runs) {
  if (runs.size() == 1) return "<section id=\"figures\"><h2>Key figures</h2>" + cards(runs[0]) + "</section>";
  std::vector<std::vector<Figure>> columns;
  for (const RunRecord& run : runs) columns.push_back(figures_of(run));
  // A row for each run, so that any number of runs can be read.
  std::string html = "<section id=\"figures\"><h2>Key figures</h2><div class=\"scroll\"><table><thead><tr><th>run</th>";
  for (const Figure& figure : columns[0]) html += fmt::format("<th title=\"{}\">{}</th>", escape(figure.meaning), escape(figure.name));
  html += "</tr></thead><tbody>";
  for (size_t i = 0; i < runs.size(); ++i) {
    html += fmt::format("<tr><th>{}</th>", escape(runs[i].name));
    for (const Figure& figure : columns[i]) html += fmt::format("<td>{}</td>", escape(figure.value));
    html += "</tr>";
  }
  return html + "</tbody></table></div></section>";
}

std::string alarms_section(const std::vector<RunRecord>& runs) {
  std::string items;
  for (const RunRecord& run : runs) {
    for (const Alarm& alarm : run.alarms) {
      items += fmt::format("<li>{}{}</li>", runs.size() > 1 ? fmt::format("<b>{}</b> ", escape(run.name)) : "", escape(alarm.sentence));
    }
  }
  if (items.empty()) return "";
  return "<section id=\"alarms\"><h2>Alarms</h2><ul class=\"alarms\">" + items + "</ul></section>";
}

std::string notes_section(const std::vector<RunRecord>& runs) {
  std::string items;
  for (const RunRecord& run : runs) {
    for (const std::string& note : run.notes) items += fmt::format("<li><b>{}</b>: {}</li>", escape(run.name), escape(note));
  }
  return items.empty() ? "" : "<section id=\"notes\"><h2>Notes</h2><ul class=\"notes\">" + items + "</ul></section>";
}

std::string configuration_section(const std::vector<RunRecord>& runs) {
  std::vector<std::string> fields;  // in the order of the first run that has them
  std::vector<std::map<std::string, std::string>> values;
  for (const RunRecord& run : runs) {
    std::map<std::string, std::string>& own = values.emplace_back();
    for (const auto& [field, value] : run.config) {
      own[field] = value;
      if (std::find(fields.begin(), fields.end(), field) == fields.end()) fields.push_back(field);
    }
  }
  if (fields.empty()) return "<section id=\"configuration\"><h2>Configuration</h2><p class=\"none\">none could be read</p></section>";
  if (runs.size() == 1) {
    return "<section id=\"configuration\"><h2>Configuration</h2><details><summary>all fields</summary>" + field_table(runs, fields, values) +
           "</details></section>";
  }
  std::vector<std::string> different;
  for (const std::string& field : fields) {
    const auto same = [&](const auto& own) {
      const auto a = own.find(field), b = values[0].find(field);
      return (a == own.end()) == (b == values[0].end()) && (a == own.end() || a->second == b->second);
    };
    if (!std::all_of(values.begin(), values.end(), same)) different.push_back(field);
  }
  std::string html = "<section id=\"configuration\"><h2>Differences of configuration</h2>";
  html += different.empty() ? "<p class=\"none\">none: the runs differ in nothing that their configurations say</p>" : field_table(runs, different, values);
  return html + "<details><summary>all fields</summary>" + field_table(runs, fields, values) + "</details></section>";
}

}  // namespace switchyard
