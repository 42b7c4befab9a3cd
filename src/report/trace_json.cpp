#include "src/report/trace_json.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "src/report/output.h"

namespace switchyard {

// "X" is a complete event; times are in microseconds. The thread number separates nothing: a rank has one thread.
std::string trace_events(int rank, std::span<const TraceEvent> events, int64_t offset_ns) {
  std::string text = fmt::format(R"({{"ph":"M","name":"process_name","pid":{},"tid":0,"args":{{"name":"rank {}"}}}})", rank, rank);
  for (const TraceEvent& event : events) {
    const double begin = static_cast<double>(event.begin_ns + offset_ns) / 1000, duration = static_cast<double>(event.duration_ns) / 1000;
    text += fmt::format(",\n{{\"ph\":\"X\",\"name\":{},\"cat\":\"{}\",\"pid\":{},\"tid\":0,\"ts\":{:.3f},\"dur\":{:.3f}", nlohmann::json(event.name).dump(),
                        name(event.kind), rank, begin, duration);
    if (event.layer >= 0 || event.bytes > 0) text += fmt::format(",\"args\":{{\"layer\":{},\"bytes\":{}}}", event.layer, event.bytes);
    text += '}';
  }
  return text;
}

void write_trace(const std::string& path, const std::vector<std::string>& ranks) {
  const std::string temporary = path + ".tmp";
  std::remove(temporary.c_str());
  try {
    AppendedFile file(temporary, true);
    file.append("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    for (size_t i = 0; i < ranks.size(); ++i) file.append((i == 0 ? "" : ",\n") + ranks[i]);
    file.append("\n]}\n");
    file.close();
    if (std::rename(temporary.c_str(), path.c_str()) != 0) {
      throw Error(ExitCode::kInputOutput, fmt::format("cannot rename {} to {}: {}; check the permissions", temporary, path, std::strerror(errno)));
    }
  } catch (...) {
    std::remove(temporary.c_str());
    throw;
  }
}

}  // namespace switchyard
