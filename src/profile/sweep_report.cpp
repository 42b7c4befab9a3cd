#include "src/profile/sweep_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

double micro(double seconds) { return seconds * 1e6; }

double gigabytes_per_second(int64_t bytes, double seconds) { return seconds > 0 ? static_cast<double>(bytes) / seconds * 1e-9 : 0; }

double error_percent(const SweepRow& row) { return row.time.p50 > 0 ? (row.predicted / row.time.p50 - 1) * 100 : 0; }

int hosts_in(const std::vector<int>& hosts) { return hosts.empty() ? 0 : *std::max_element(hosts.begin(), hosts.end()) + 1; }

std::string plural(int64_t count, const char* word) { return fmt::format("{} {}{}", count, word, count == 1 ? "" : "s"); }

std::string head_text(const SweepHead& head, const SweepOptions& options) {
  std::string text = fmt::format("# {} profile alltoall\n", head.program);
  text += fmt::format("# {} on {}, {} here; pattern {}; {} after {} of warm-up, transports in turns; payload of {} checked, and of the last\n",
                      plural(static_cast<int64_t>(head.hosts.size()), "rank"), plural(hosts_in(head.hosts), "host"), plural(head.cores, "core"),
                      options.pattern.text(), plural(options.iterations, "iteration"), options.warm_up, plural(options.check, "repetition"));
  text += "# time: of the slowest rank in each iteration. size: whole send buffer of the busiest rank. algbw: size / p50. busbw: algbw (n-1)/n.\n";
  text += "# within, between: the busiest rank's bytes to others on its host, on other hosts / p50. imbal: busiest rank's bytes / mean.\n";
  text += fmt::format("# straggler: sum over ranks of t - least t. model: {}\n", head.link.empty() ? "each transport's own fit, below" : head.link);
  for (const std::string& note : head.notes) text += "# note: " + note + "\n";
  return text;
}

std::string fit_line(const std::string& transport, const char* kind, const std::optional<LinkFit>& fit) {
  if (!fit) return {};
  return fmt::format("# fit {:<16} {:<14} alpha {:>9.3f} us   beta {:>8.3f} GB/s   rms error {:.1f} % of {}\n", transport, kind, micro(fit->link.alpha),
                     fit->link.bytes_per_second * 1e-9, fit->error * 100, plural(fit->samples, "row"));
}

Json fit_json(const std::string& transport, const char* kind, const LinkFit& fit) {
  return {{"transport", transport},           {"link", kind},       {"alpha_us", micro(fit.link.alpha)}, {"beta_gb_per_s", fit.link.bytes_per_second * 1e-9},
          {"rms_error_pct", fit.error * 100}, {"rows", fit.samples}};
}

Json row_json(const SweepRow& row, const std::vector<int>& hosts) {
  const WireBytes wire = wire_bytes(row.traffic, hosts);
  return {
      {"transport", row.transport},
      {"pairs", name(row.pairs)},
      {"size", row.traffic.largest()},
      {"pair_bytes", row.pair_bytes},
      {"total_bytes", row.traffic.total()},
      {"time_us",
       {{"min", micro(row.time.min)}, {"p50", micro(row.time.p50)}, {"p95", micro(row.time.p95)}, {"p99", micro(row.time.p99)}, {"max", micro(row.time.max)}}},
      {"alg_bw", row.algorithm_bandwidth()},
      {"bus_bw", row.bus_bandwidth()},
      {"wire_within_bw", gigabytes_per_second(wire.within, row.time.p50)},
      {"wire_between_bw", gigabytes_per_second(wire.between, row.time.p50)},
      {"imbalance", wire.imbalance},
      {"straggler_wait_us", micro(row.straggler_wait)},
      {"wrong", row.wrong},
      {"predicted_us", micro(row.predicted)},
      {"error_pct", error_percent(row)}};
}

// In order of appearance.
std::vector<std::string> transports_of(const std::vector<SweepRow>& rows) {
  std::vector<std::string> names;
  for (const SweepRow& row : rows) {
    if (std::find(names.begin(), names.end(), row.transport) == names.end()) names.push_back(row.transport);
  }
  return names;
}

}  // namespace

int64_t total_wrong(const std::vector<SweepRow>& rows) {
  int64_t wrong = 0;
  for (const SweepRow& row : rows) wrong += row.wrong;
  return wrong;
}

double average_bus_bandwidth(const std::vector<SweepRow>& rows, const std::string& transport) {
  double sum = 0;
  int count = 0;
  for (const SweepRow& row : rows) {
    if (row.transport != transport || row.pairs != Pairs::kAll) continue;
    sum += row.bus_bandwidth();
    ++count;
  }
  return count > 0 ? sum / count : 0;
}

std::string sweep_text(const SweepHead& head, const SweepOptions& options, const std::vector<SweepRow>& rows) {
  std::string text = head_text(head, options);
  text += fmt::format("#\n# {:>11} {:>11} {:>8}  {:<16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>7} {:>6} {:>9} {:>7} {:>9} {:>7}\n", "size", "pair",
                      "pairs", "transport", "min", "p50", "p95", "p99", "max", "algbw", "busbw", "within", "between", "imbal", "straggler", "#wrong", "model",
                      "error");
  text += fmt::format("# {:>11} {:>11} {:>8}  {:<16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>7} {:>6} {:>9} {:>7} {:>9} {:>7}\n", "(B)", "(B)", "",
                      "", "(us)", "(us)", "(us)", "(us)", "(us)", "(GB/s)", "(GB/s)", "(GB/s)", "(GB/s)", "", "(us)", "", "(us)", "(%)");
  for (const SweepRow& row : rows) {
    const WireBytes wire = wire_bytes(row.traffic, head.hosts);
    const std::string wrong = options.check > 0 ? std::to_string(row.wrong) : "N/A";
    text +=
        fmt::format("  {:>11} {:>11} {:>8}  {:<16} {:>9.2f} {:>9.2f} {:>9.2f} {:>9.2f} {:>9.2f} {:>7.3f} {:>7.3f} {:>7.3f} {:>7.3f} {:>6.2f} {:>9.2f} {:>7}",
                    row.traffic.largest(), row.pair_bytes, name(row.pairs), row.transport, micro(row.time.min), micro(row.time.p50), micro(row.time.p95),
                    micro(row.time.p99), micro(row.time.max), row.algorithm_bandwidth(), row.bus_bandwidth(), gigabytes_per_second(wire.within, row.time.p50),
                    gigabytes_per_second(wire.between, row.time.p50), wire.imbalance, micro(row.straggler_wait), wrong);
    text += row.predicted > 0 ? fmt::format(" {:>9.2f} {:>7.1f}\n", micro(row.predicted), error_percent(row)) : fmt::format(" {:>9} {:>7}\n", "N/A", "N/A");
  }
  for (const TransportFit& fit : fit_rows(rows, head.hosts)) {
    text += fit_line(fit.transport, "within hosts", fit.within) + fit_line(fit.transport, "between hosts", fit.between);
  }
  const int64_t wrong = total_wrong(rows);
  text += fmt::format("# Out of bounds values : {} {}\n", wrong, options.check == 0 ? "NOT CHECKED" : wrong == 0 ? "OK" : "FAILED");
  for (const std::string& transport : transports_of(rows)) {
    text += fmt::format("# Avg bus bandwidth    : {:.4f} {}\n", average_bus_bandwidth(rows, transport), transport);
  }
  return text;
}

std::string sweep_csv(const std::vector<SweepRow>& rows, const std::vector<int>& hosts) {
  std::string text =
      "transport,pairs,size,pair_bytes,total_bytes,min_us,p50_us,p95_us,p99_us,max_us,alg_bw,bus_bw,wire_within_bw,wire_between_bw,imbalance,"
      "straggler_wait_us,wrong,predicted_us,error_pct\n";
  for (const SweepRow& row : rows) {
    std::vector<std::string> cells;
    const Json values = row_json(row, hosts);
    for (const auto& [key, value] : values.items()) {
      if (value.is_object()) {
        for (const Json& time : value) cells.push_back(time.dump());
      } else {
        cells.push_back(value.is_string() ? value.get<std::string>() : value.dump());
      }
    }
    text += fmt::format("{}\n", fmt::join(cells, ","));
  }
  return text;
}

std::string sweep_json(const SweepHead& head, const SweepOptions& options, const std::vector<SweepRow>& rows) {
  Json results = Json::array(), fits = Json::array(), average = Json::object();
  for (const SweepRow& row : rows) results.push_back(row_json(row, head.hosts));
  for (const TransportFit& fit : fit_rows(rows, head.hosts)) {
    if (fit.within) fits.push_back(fit_json(fit.transport, "within_host", *fit.within));
    if (fit.between) fits.push_back(fit_json(fit.transport, "between_hosts", *fit.between));
  }
  for (const std::string& transport : transports_of(rows)) average[transport] = average_bus_bandwidth(rows, transport);
  const int64_t wrong = total_wrong(rows);
  const Json report = {{"program", head.program},
                       {"command", "profile alltoall"},
                       {"ranks", head.hosts.size()},
                       {"hosts", head.hosts},
                       {"cores", head.cores},
                       {"config",
                        {{"pattern", options.pattern.text()},
                         {"iterations", options.iterations},
                         {"warm_up", options.warm_up},
                         {"check", options.check},
                         {"sizes", options.sizes}}},
                       {"link", head.link},
                       {"notes", head.notes},
                       {"results", results},
                       {"fit", fits},
                       {"out_of_bounds", {{"count", wrong}, {"okay", wrong == 0}}},
                       {"average_bus_bandwidth", average}};
  return report.dump(2) + "\n";
}

}  // namespace switchyard
