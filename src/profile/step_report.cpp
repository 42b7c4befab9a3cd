#include "src/profile/step_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

double milli(double seconds) { return seconds * 1e3; }

constexpr int kMostRanksInText = 16;

double share(const StepHead& head, double seconds) { return head.measured_seconds > 0 ? seconds / head.measured_seconds * 100 : 0; }

StepPart sum_of(const StepProfile& profile) {
  StepPart sum;
  for (const StepPart& part : profile.parts) {
    sum.compute += part.compute;
    sum.wait += part.wait;
    sum.move += part.move;
    sum.hidden += part.hidden;
    sum.bytes += part.bytes;
    sum.predicted += part.predicted_exposed();
  }
  return sum;
}

std::string line(const StepHead& head, const StepPart& part, const std::string& name, double predicted) {
  const std::string layer = part.layer >= 0 ? std::to_string(part.layer) : "";
  std::string text = fmt::format("  {:<16} {:>5} {:>10.3f} {:>10.3f} {:>9.3f} {:>9.3f} {:>9.3f} {:>8.2f} {:>10.3f}", name, layer, milli(part.total()),
                                 milli(part.compute), milli(part.wait), milli(part.move), milli(part.hidden), share(head, part.total()), part.bytes * 1e-6);
  if (!head.link.empty()) text += fmt::format(" {:>10.3f}", milli(predicted));
  return text + "\n";
}

std::string matrix_lines(const char* title, const Traffic& traffic, int64_t steps) {
  std::string text = fmt::format("# bytes of a step from rank (row) to rank (column), {}:\n", title);
  for (int from = 0; from < traffic.ranks; ++from) {
    text += fmt::format("# {:>4}", from);
    for (int to = 0; to < traffic.ranks; ++to) text += fmt::format(" {:>12}", traffic.at(from, to) / steps);
    text += "\n";
  }
  return text;
}

Json matrix_json(const Traffic& traffic, int64_t steps) {
  Json rows = Json::array();
  for (int from = 0; from < traffic.ranks; ++from) {
    Json row = Json::array();
    for (int to = 0; to < traffic.ranks; ++to) row.push_back(static_cast<double>(traffic.at(from, to)) / static_cast<double>(steps));
    rows.push_back(row);
  }
  return rows;
}

Json part_json(const StepHead& head, const StepPart& part) {
  Json json = {{"name", part.name},         {"layer", part.layer},       {"seconds", part.total()},       {"compute_seconds", part.compute},
               {"wait_seconds", part.wait}, {"move_seconds", part.move}, {"hidden_seconds", part.hidden}, {"share_pct", share(head, part.total())},
               {"bytes", part.bytes}};
  if (!head.link.empty()) {
    json["predicted_seconds"] = part.predicted;
    json["predicted_exposed_seconds"] = part.predicted_exposed();
  }
  return json;
}

int hosts_in(const std::vector<int>& hosts) { return hosts.empty() ? 0 : *std::max_element(hosts.begin(), hosts.end()) + 1; }

}  // namespace

double predicted_step_seconds(const StepProfile& profile) {
  double seconds = 0;
  for (const StepPart& part : profile.parts) seconds += part.compute + part.wait + part.predicted_exposed();
  return seconds;
}

std::string step_text(const StepHead& head, const StepProfile& profile) {
  std::string text = fmt::format("# {} profile step {}\n", head.program, head.config);
  const int hosts = hosts_in(head.hosts);
  text += fmt::format("# {} {} of {} {} on {} {}; {}\n", profile.ranks, profile.ranks == 1 ? "rank" : "ranks", head.threads,
                      head.threads == 1 ? "thread" : "threads", hosts, hosts == 1 ? "host" : "hosts", head.transport);
  text += fmt::format("# {} steps after {} of warm-up: {:.3f} ms each; on the slowest rank min {:.3f}, median {:.3f}, max {:.3f}\n", profile.steps,
                      head.warm_up, milli(head.measured_seconds), milli(profile.step.min), milli(profile.step.p50), milli(profile.step.max));
  text += "# Of one step, forward and backward, mean over ranks. wait: in collectives until the last rank came to them; move: in collectives since\n";
  text += "# then; hidden: computed while transfers were under way, at most; sent: by all ranks to others.\n#\n";
  const char* columns = "# {:<16} {:>5} {:>10} {:>10} {:>9} {:>9} {:>9} {:>8} {:>10}";
  text += fmt::format(fmt::runtime(columns), "part", "layer", "total", "compute", "wait", "move", "hidden", "share", "sent");
  text += head.link.empty() ? "\n" : fmt::format(" {:>10}\n", "what-if");
  text += fmt::format(fmt::runtime(columns), "", "", "(ms)", "(ms)", "(ms)", "(ms)", "(ms)", "(%)", "(MB)");
  text += head.link.empty() ? "\n" : fmt::format(" {:>10}\n", "(ms)");
  for (const StepPart& part : profile.parts) text += line(head, part, part.name, part.predicted_exposed());
  const StepPart sum = sum_of(profile);
  text += line(head, sum, "sum", sum.predicted);
  if (profile.ranks <= kMostRanksInText) {
    text += matrix_lines("dispatch and combine", profile.exchange, profile.steps);
    text += matrix_lines("gradient sum", profile.gradient_sum, profile.steps);
    text += matrix_lines("publish", profile.publish, profile.steps);
  }
  if (head.overhead) text += fmt::format("# watching costs {:.2f} % of a step\n", *head.overhead * 100);
  if (!head.link.empty()) {
    text += fmt::format("# what if: {} on {} hosts: collectives {:.3f} ms instead of {:.3f}, the step {:.3f} ms instead of {:.3f}\n", head.link,
                        hosts_in(head.link_hosts), milli(sum.predicted), milli(sum.move), milli(predicted_step_seconds(profile)), milli(sum.total()));
  }
  return text;
}

std::string step_json(const StepHead& head, const StepProfile& profile) {
  Json parts = Json::array();
  for (const StepPart& part : profile.parts) parts.push_back(part_json(head, part));
  Json report = {{"program", head.program},
                 {"command", "profile step"},
                 {"config", head.config},
                 {"ranks", profile.ranks},
                 {"threads", head.threads},
                 {"hosts", head.hosts},
                 {"transport", head.transport},
                 {"warm_up", head.warm_up},
                 {"steps", profile.steps},
                 {"step_seconds", head.measured_seconds},
                 {"slowest_rank_seconds", {{"min", profile.step.min}, {"p50", profile.step.p50}, {"max", profile.step.max}}},
                 {"sum_of_parts_seconds", profile.total()},
                 {"parts", parts},
                 {"bytes",
                  {{"exchange", matrix_json(profile.exchange, profile.steps)},
                   {"gradient_sum", matrix_json(profile.gradient_sum, profile.steps)},
                   {"publish", matrix_json(profile.publish, profile.steps)}}}};
  if (!head.link.empty()) report["what_if"] = {{"link", head.link}, {"hosts", head.link_hosts}, {"step_seconds", predicted_step_seconds(profile)}};
  if (head.overhead) report["watching_costs_pct"] = *head.overhead * 100;
  return report.dump(2) + "\n";
}

std::string matrix_text(const Traffic& traffic, int64_t steps) {
  std::string text = "# bytes of a step from rank (row) to rank (column), dispatch and combine\n";
  for (int from = 0; from < traffic.ranks; ++from) {
    for (int to = 0; to < traffic.ranks; ++to) text += fmt::format("{}{}", to == 0 ? "" : " ", traffic.at(from, to) / steps);
    text += "\n";
  }
  return text;
}

}  // namespace switchyard
