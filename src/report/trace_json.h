// trace.json: the spans of all ranks in Chrome's trace format (chrome://tracing, Perfetto); a process for each rank.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/base/trace.h"

namespace switchyard {

// The events of one rank as JSON objects joined by ",\n": what a rank sends to rank 0. `offset_ns` is added to every
// time, so that ranks whose traces began at different times line up.
std::string trace_events(int rank, std::span<const TraceEvent> events, int64_t offset_ns);

// Writes the whole file from the texts of all ranks. Throws Error(kInputOutput).
void write_trace(const std::string& path, const std::vector<std::string>& ranks);

}  // namespace switchyard
