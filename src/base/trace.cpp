#include "src/base/trace.h"

namespace switchyard {

const char* name(SpanKind kind) {
  static constexpr const char* kNames[kSpanKinds] = {"compute", "all_to_all", "gradient_sum", "publish", "control", "input", "file"};
  return kNames[static_cast<int>(kind)];
}

Trace::Trace() : origin_(std::chrono::steady_clock::now()) {}

void Trace::record(int64_t capacity) {
  capacity_ = capacity;
  events_.reserve(static_cast<size_t>(capacity));
}

void Trace::clear() { totals_ = {}; }

int64_t Trace::now_ns() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - origin_).count();
}

void Trace::close(const TraceEvent& event) {
  Total& total = totals_[static_cast<int>(event.kind)];
  total.seconds += static_cast<double>(event.duration_ns) * 1e-9;
  total.bytes += event.bytes;
  if (capacity_ == 0) return;
  if (static_cast<int64_t>(events_.size()) < capacity_) {
    events_.push_back(event);
  } else {
    ++dropped_;
  }
}

}  // namespace switchyard
