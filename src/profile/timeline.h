// Timeline: what one rank did in the steps that were watched, and how the timelines of all ranks come together on rank 0
// under one clock.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "src/base/trace.h"
#include "src/profile/recorder.h"

namespace switchyard {

struct TimelineSpan {
  std::string name;
  SpanKind kind = SpanKind::kCompute;
  int layer = -1;
  Stay stay;
};

// RecordedCall, with what it sends.
struct TimelineCall {
  CallKind kind = CallKind::kBarrier;
  std::string name;
  int layer = -1;
  Stay outbox, issue, wait;
  std::vector<int64_t> bytes;  // [P] to every peer
};

struct Timeline {
  int rank = 0;
  std::vector<Stay> steps;  // one after another
  std::vector<TimelineSpan> spans;
  std::vector<TimelineCall> calls;
};

// Spans and calls of this rank that lie within its steps.
Timeline make_timeline(const Trace& trace, const Recorder& recorder, std::span<const Stay> steps);

// Nanoseconds to be added to times of this rank's trace to get times of rank 0's. Estimated from messages to and fro
// between rank 0 and each rank, of which the quickest counts; where the machine's monotonic clock agrees with every one of
// those messages the ranks share it, and it is taken instead. Collective.
int64_t clock_offset(Communicator& comm, const Trace& trace);

// All timelines in rank order on rank 0, times in rank 0's clock; nothing on the others. Collective.
std::vector<Timeline> gather_timelines(Communicator& comm, const Timeline& mine, int64_t offset_ns);

}  // namespace switchyard
