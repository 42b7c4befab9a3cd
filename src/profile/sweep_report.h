// What a sweep prints: columns as users of nccl-tests and of OSU's benchmarks know them, JSON, or CSV.
#pragma once

#include <string>
#include <vector>

#include "src/profile/sweep.h"

namespace switchyard {

// What was run, for the head of the report.
struct SweepHead {
  std::string program;     // name and version
  std::vector<int> hosts;  // [P] host of each rank, numbered from 0
  int cores = 0;           // of this host
  std::string link;        // file of the prediction; empty: each transport's own fit
  std::vector<std::string> notes;
};

std::string sweep_text(const SweepHead& head, const SweepOptions& options, const std::vector<SweepRow>& rows);
std::string sweep_csv(const std::vector<SweepRow>& rows, const std::vector<int>& hosts);
// One object; its fields are described by tests/profile/alltoall.schema.json.
std::string sweep_json(const SweepHead& head, const SweepOptions& options, const std::vector<SweepRow>& rows);

int64_t total_wrong(const std::vector<SweepRow>& rows);
// Mean of the bus bandwidth of a transport's rows of all pairs, GB/s.
double average_bus_bandwidth(const std::vector<SweepRow>& rows, const std::string& transport);

}  // namespace switchyard
