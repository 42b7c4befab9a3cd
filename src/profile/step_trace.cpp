// trace.json of a profiled step. The format: "Trace Event Format", the document that chrome://tracing and Perfetto read.
#include <fmt/format.h>

#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "src/profile/step_report.h"

namespace switchyard {
namespace {

class TraceText {
 public:
  TraceText(const Timeline& timeline, int64_t origin_ns) : timeline_(timeline), origin_ns_(origin_ns) {
    text_ = fmt::format(R"({{"ph":"M","name":"process_name","pid":{0},"tid":0,"args":{{"name":"rank {0}"}}}})", timeline.rank);
    text_ += fmt::format(
        ",\n"
        R"({{"ph":"M","name":"process_sort_index","pid":{0},"tid":0,"args":{{"sort_index":{0}}}}})",
        timeline.rank);
  }

  void complete(const std::string& name, const char* category, const Stay& stay, int layer, int64_t bytes = -1) {
    if (stay.end_ns <= stay.begin_ns) return;
    text_ += fmt::format(R"(,{}{{"ph":"X","name":{},"cat":"{}","pid":{},"tid":0,"ts":{},"dur":{:.3f},"args":{{"layer":{})", '\n', quoted(name), category,
                         timeline_.rank, time(stay.begin_ns), static_cast<double>(stay.end_ns - stay.begin_ns) / 1000, layer);
    if (bytes >= 0) text_ += fmt::format(R"(,"bytes":{})", bytes);
    text_ += "}}";
  }
  // 'b' begins and 'e' ends something that is under way beside what the rank does.
  void asynchronous(char phase, const std::string& name, size_t number, int64_t when) {
    text_ += fmt::format(R"(,{}{{"ph":"{}","name":{},"cat":"transfer","id":"{}.{}","pid":{},"tid":0,"ts":{}}})", '\n', phase, quoted(name), timeline_.rank,
                         number, timeline_.rank, time(when));
  }
  // 's' starts and 'f' ends an arrow; it is tied to the slice around it.
  void flow(char phase, size_t number, int64_t when) {
    text_ += fmt::format(R"(,{}{{"ph":"{}",{}"name":"rows","cat":"flow","id":"{}.{}","pid":{},"tid":0,"ts":{}}})", '\n', phase,
                         phase == 'f' ? R"("bp":"e",)" : "", timeline_.rank, number, timeline_.rank, time(when));
  }
  std::string take() { return std::move(text_); }

 private:
  static std::string quoted(const std::string& name) { return nlohmann::json(name).dump(); }
  std::string time(int64_t nanoseconds) const { return fmt::format("{:.3f}", static_cast<double>(nanoseconds - origin_ns_) / 1000); }

  const Timeline& timeline_;
  int64_t origin_ns_;
  std::string text_;
};

// The transfer that brings back what one of this name took away; null if it is another kind.
const char* way_back(const std::string& name) {
  if (name == "dispatch") return "combine";
  if (name == "combine backward") return "dispatch backward";
  return nullptr;
}

// Where the rank waited for a transfer, or else where it started it.
int64_t awaited(const TimelineCall& call) { return call.wait.end_ns > 0 ? call.wait.begin_ns : call.issue.begin_ns; }

// Transfer k of a name and layer that takes rows away is answered by transfer k that brings them back.
void add_flows(const Timeline& timeline, TraceText& text) {
  std::map<std::pair<std::string, int>, std::vector<size_t>> away;
  std::map<std::pair<std::string, int>, size_t> answered;
  for (size_t i = 0; i < timeline.calls.size(); ++i) {
    const TimelineCall& call = timeline.calls[i];
    if (call.kind != CallKind::kTransfer) continue;
    if (const char* back = way_back(call.name)) {
      away[{back, call.layer}].push_back(i);
      continue;
    }
    const auto starts = away.find({call.name, call.layer});
    size_t& next = answered[{call.name, call.layer}];
    if (starts == away.end() || next == starts->second.size()) continue;
    const size_t start = starts->second[next++];
    text.flow('s', start, timeline.calls[start].issue.begin_ns);
    text.flow('f', start, awaited(call));
  }
}

}  // namespace

std::string step_trace(const Timeline& timeline, int64_t first_step, int64_t origin_ns) {
  TraceText text(timeline, origin_ns);
  for (size_t i = 0; i < timeline.steps.size(); ++i) text.complete(fmt::format("step {}", first_step + static_cast<int64_t>(i)), "step", timeline.steps[i], -1);
  for (const TimelineSpan& span : timeline.spans) text.complete(span.name, name(span.kind), span.stay, span.layer);
  for (size_t i = 0; i < timeline.calls.size(); ++i) {
    const TimelineCall& call = timeline.calls[i];
    int64_t bytes = 0;
    for (size_t peer = 0; peer < call.bytes.size(); ++peer) bytes += static_cast<int>(peer) == timeline.rank ? 0 : call.bytes[peer];
    const bool transfer = call.kind == CallKind::kTransfer || call.kind == CallKind::kBucketTransfer;
    text.complete(call.name + ": outbox", "collective", call.outbox, call.layer);
    text.complete(call.name + (transfer ? ": start" : ": all"), "collective", call.issue, call.layer, bytes);
    text.complete(call.name + ": wait", "collective", call.wait, call.layer);
    if (!transfer || call.wait.end_ns == 0) continue;
    text.asynchronous('b', call.name, i, call.issue.begin_ns);
    text.asynchronous('e', call.name, i, call.wait.end_ns);
  }
  add_flows(timeline, text);
  return text.take();
}

}  // namespace switchyard
