// Where the time goes: named spans, summed by kind, and kept as events when a trace file was asked for.
//
// A Span is opened on the stack and closes when it leaves scope; spans of one Trace nest. One Trace per rank, used by
// that rank's thread only. Nothing here writes files: src/report turns the events into trace.json.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

namespace switchyard {

// What a span's time counts as.
enum class SpanKind : uint8_t {
  kCompute,      // a layer, or a part of one
  kAllToAll,     // dispatch and combine, with their waits
  kGradientSum,  // buckets of dense gradients, with their waits
  kPublish,      // new values to all ranks
  kControl,      // counts, agreement, scalars, barriers
  kInput,        // batches
  kFile,         // checkpoints, metrics
};
inline constexpr int kSpanKinds = 7;
const char* name(SpanKind kind);

struct TraceEvent {
  const char* name;  // a literal
  SpanKind kind;
  int32_t layer;       // -1: belongs to no layer
  int64_t begin_ns;    // since the trace's origin
  int64_t duration_ns;
  int64_t bytes;       // payload of a collective on this rank, else 0
};

class Trace {
 public:
  Trace();

  // Keeps at most `capacity` events from now on; 0 stops. Reserves the memory at once.
  void record(int64_t capacity);

  // Seconds and bytes of closed spans of `kind` since the last clear().
  double seconds(SpanKind kind) const { return totals_[static_cast<int>(kind)].seconds; }
  int64_t bytes(SpanKind kind) const { return totals_[static_cast<int>(kind)].bytes; }
  void clear();

  const std::vector<TraceEvent>& events() const { return events_; }
  int64_t dropped_events() const { return dropped_; }
  int64_t now_ns() const;

 private:
  friend class Span;
  struct Total {
    double seconds = 0;
    int64_t bytes = 0;
  };
  void close(const TraceEvent& event);

  std::chrono::steady_clock::time_point origin_;
  std::array<Total, kSpanKinds> totals_{};
  std::vector<TraceEvent> events_;
  int64_t capacity_ = 0;
  int64_t dropped_ = 0;
};

class Span {
 public:
  // `name` must be a literal: the trace keeps the pointer.
  Span(Trace& trace, SpanKind kind, const char* name, int layer = -1) : trace_(trace), event_{name, kind, layer, trace.now_ns(), 0, 0} {}
  ~Span() {
    event_.duration_ns = trace_.now_ns() - event_.begin_ns;
    trace_.close(event_);
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  void add_bytes(int64_t bytes) { event_.bytes += bytes; }

 private:
  Trace& trace_;
  TraceEvent event_;
};

}  // namespace switchyard
