#include "src/profile/timeline.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

using Json = nlohmann::json;

constexpr Call kCall{"timeline", -1};
constexpr int kTries = 20;

// Rows of one I32 from one rank to another; the others take part and move nothing.
void send_rows(Communicator& comm, int from, int to, void* data, int64_t rows) {
  const bool sends = comm.rank() == from, receives = comm.rank() == to;
  const Tensor outbox = comm.outbox(OutboxUse::kExchange, Dtype::kI32, sends ? rows : 0, 1);
  if (sends) std::memcpy(outbox.data(), data, static_cast<size_t>(rows) * 4);
  const Segment out{to, 0, rows}, in{from, 0, rows};
  const Tensor inbox(receives ? data : nullptr, Dtype::kI32, {receives ? rows : 0, 1});
  comm.wait(comm.all_to_all(kCall, outbox, {&out, sends ? 1u : 0u}, inbox, {&in, receives ? 1u : 0u}, Event()));
}

// What a message to `peer` and back tells rank 0: the peer's clock was read between these two times of rank 0's.
struct RoundTrip {
  int64_t left = 0, back = 0, stamp = 0;
};

RoundTrip to_and_fro(Communicator& comm, const Trace& trace, int peer) {
  int64_t token = 0;
  RoundTrip result;
  result.left = trace.now_ns();
  send_rows(comm, 0, peer, &token, 2);
  token = trace.now_ns();
  send_rows(comm, peer, 0, &token, 2);
  result.back = trace.now_ns();
  result.stamp = token;
  return result;
}

bool inside(const Stay& stay, std::span<const Stay> steps) {
  return std::any_of(steps.begin(), steps.end(), [&](const Stay& step) { return step.begin_ns <= stay.begin_ns && stay.end_ns <= step.end_ns; });
}

Json encoded(const Stay& stay) { return Json::array({stay.begin_ns, stay.end_ns}); }

std::vector<uint8_t> encode(const Timeline& timeline) {
  Json spans = Json::array(), calls = Json::array(), steps = Json::array();
  for (const Stay& step : timeline.steps) steps.push_back(encoded(step));
  for (const TimelineSpan& span : timeline.spans) spans.push_back(Json::array({span.name, static_cast<int>(span.kind), span.layer, encoded(span.stay)}));
  for (const TimelineCall& call : timeline.calls) {
    calls.push_back(
        Json::array({call.name, static_cast<int>(call.kind), call.layer, encoded(call.outbox), encoded(call.issue), encoded(call.wait), call.bytes}));
  }
  return Json::to_cbor(Json::array({timeline.rank, steps, spans, calls}));
}

// Times of a Stay that took place are moved by `offset_ns`.
Stay decoded(const Json& stay, int64_t offset_ns) {
  const Stay read{stay.at(0).get<int64_t>(), stay.at(1).get<int64_t>()};
  return read.end_ns == read.begin_ns && read.end_ns == 0 ? read : Stay{read.begin_ns + offset_ns, read.end_ns + offset_ns};
}

Timeline decode(std::span<const uint8_t> bytes, int64_t offset_ns) {
  const Json all = Json::from_cbor(bytes.begin(), bytes.end(), false);
  Timeline timeline;
  timeline.rank = all.at(0);
  for (const Json& step : all.at(1)) timeline.steps.push_back(decoded(step, offset_ns));
  for (const Json& span : all.at(2))
    timeline.spans.push_back({span.at(0), static_cast<SpanKind>(span.at(1).get<int>()), span.at(2), decoded(span.at(3), offset_ns)});
  for (const Json& call : all.at(3)) {
    timeline.calls.push_back({static_cast<CallKind>(call.at(1).get<int>()), call.at(0), call.at(2), decoded(call.at(3), offset_ns),
                              decoded(call.at(4), offset_ns), decoded(call.at(5), offset_ns), call.at(6).get<std::vector<int64_t>>()});
  }
  return timeline;
}

}  // namespace

Timeline make_timeline(const Trace& trace, const Recorder& recorder, std::span<const Stay> steps) {
  Timeline timeline;
  timeline.rank = recorder.rank();
  timeline.steps.assign(steps.begin(), steps.end());
  for (const TraceEvent& event : trace.events()) {
    const Stay stay{event.begin_ns, event.begin_ns + event.duration_ns};
    if (inside(stay, steps)) timeline.spans.push_back({event.name, event.kind, event.layer, stay});
  }
  for (size_t i = 0; i < recorder.calls().size(); ++i) {
    const RecordedCall& call = recorder.calls()[i];
    if (!inside(call.issue, steps)) continue;
    TimelineCall& made = timeline.calls.emplace_back(TimelineCall{call.kind, call.name, call.layer, call.outbox, call.issue, call.wait, {}});
    for (int peer = 0; peer < recorder.size(); ++peer) made.bytes.push_back(recorder.bytes_to(i, peer));
  }
  return timeline;
}

int64_t clock_offset(Communicator& comm, const Trace& trace) {
  const size_t ranks = static_cast<size_t>(comm.size());
  // When this trace began, by the monotonic clock.
  const int64_t monotonic = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
  std::vector<int64_t> origins(ranks, 0), offsets(ranks, 0);
  origins[static_cast<size_t>(comm.rank())] = monotonic - trace.now_ns();
  comm.reduce(kCall, origins, Reduction::kSum);
  for (int peer = 1; peer < comm.size(); ++peer) {
    const int64_t shared = origins[static_cast<size_t>(peer)] - origins[0];
    int64_t quickest = std::numeric_limits<int64_t>::max(), estimate = 0;
    bool agrees = true;
    for (int i = 0; i < kTries; ++i) {
      const RoundTrip seen = to_and_fro(comm, trace, peer);
      agrees &= seen.left <= seen.stamp + shared && seen.stamp + shared <= seen.back;
      if (seen.back - seen.left >= quickest) continue;
      quickest = seen.back - seen.left;
      estimate = seen.left + quickest / 2 - seen.stamp;
    }
    offsets[static_cast<size_t>(peer)] = agrees ? shared : estimate;
  }
  // Only what rank 0 saw means anything.
  for (int64_t& offset : offsets) offset = comm.rank() == 0 ? offset : 0;
  comm.reduce(kCall, offsets, Reduction::kSum);
  return offsets[static_cast<size_t>(comm.rank())];
}

std::vector<Timeline> gather_timelines(Communicator& comm, const Timeline& mine, int64_t offset_ns) {
  std::vector<uint8_t> bytes = encode(mine);
  const size_t ranks = static_cast<size_t>(comm.size());
  std::vector<int64_t> sizes(ranks, 0), offsets(ranks, 0);
  sizes[static_cast<size_t>(comm.rank())] = static_cast<int64_t>(bytes.size());
  offsets[static_cast<size_t>(comm.rank())] = offset_ns;
  comm.reduce(kCall, sizes, Reduction::kSum);
  comm.reduce(kCall, offsets, Reduction::kSum);
  std::vector<Timeline> all;
  for (int rank = 0; rank < comm.size(); ++rank) {
    const size_t size = static_cast<size_t>(sizes[static_cast<size_t>(rank)]), padded = (size + 3) / 4 * 4;
    std::vector<uint8_t> text = comm.rank() == rank ? bytes : std::vector<uint8_t>();
    if (comm.rank() == rank || comm.rank() == 0) text.resize(padded);
    if (rank != 0) send_rows(comm, rank, 0, text.data(), static_cast<int64_t>(padded / 4));
    if (comm.rank() == 0) all.push_back(decode(std::span(text).first(size), offsets[static_cast<size_t>(rank)]));
  }
  return all;
}

}  // namespace switchyard
