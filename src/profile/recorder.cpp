#include "src/profile/recorder.h"

#include <algorithm>
#include <cstdlib>

namespace switchyard {
namespace {

// A transfer is over when its outbox is handed out again, so few are open; those that nobody waits for are forgotten.
constexpr size_t kMostOpen = 64;

}  // namespace

void Recorder::start(int64_t calls) {
  calls_.clear();
  bytes_.clear();
  open_.clear();
  calls_.reserve(static_cast<size_t>(calls));
  bytes_.reserve(static_cast<size_t>(calls) * static_cast<size_t>(size()));
  open_.reserve(kMostOpen + 1);
  for (Asked& asked : asked_) asked = {};
  recording_ = true;
}

size_t Recorder::begin(CallKind kind, Call call) {
  if (!recording_) return 0;
  calls_.push_back({kind, call.name, call.layer, {}, {}, {}});
  bytes_.resize(bytes_.size() + static_cast<size_t>(size()), 0);
  return calls_.size() - 1;
}

void Recorder::end(size_t number, int64_t begin_ns) {
  if (recording_) calls_[number].issue = {begin_ns, trace_.now_ns()};
}

void Recorder::barrier(Call call) {
  const int64_t begin_ns = trace_.now_ns();
  const size_t number = begin(CallKind::kBarrier, call);
  inner_.barrier(call);
  end(number, begin_ns);
}

void Recorder::broadcast(Call call, Tensor tensor, int root) {
  const int64_t begin_ns = trace_.now_ns();
  const size_t number = begin(CallKind::kBroadcast, call);
  inner_.broadcast(call, tensor, root);
  end(number, begin_ns);
  for (int peer = 0; recording_ && rank() == root && peer < size(); ++peer) bytes_of(number, peer) = peer == root ? 0 : tensor.bytes();
}

void Recorder::all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) {
  const int64_t begin_ns = trace_.now_ns();
  const size_t number = begin(CallKind::kAllGather, call);
  inner_.all_gather(call, mine, all, rows);
  end(number, begin_ns);
  for (int peer = 0; recording_ && peer < size(); ++peer) bytes_of(number, peer) = peer == rank() ? 0 : mine.bytes();
}

void Recorder::reduce(Call call, std::span<int64_t> values, Reduction reduction) {
  const int64_t begin_ns = trace_.now_ns();
  const size_t number = begin(CallKind::kReduce, call);
  inner_.reduce(call, values, reduction);
  end(number, begin_ns);
}

Tensor Recorder::outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) {
  const int64_t begin_ns = trace_.now_ns();
  const Tensor result = inner_.outbox(use, dtype, rows, columns);
  asked_[static_cast<size_t>(use)] = {{begin_ns, trace_.now_ns()}, result.data()};
  return result;
}

size_t Recorder::use_of(const Tensor& outbox) const {
  const bool exchange = asked_[0].data == outbox.data(), bucket = asked_[1].data == outbox.data();
  if (exchange != bucket) return bucket ? 1 : 0;
  return asked_[1].stay.end_ns > asked_[0].stay.end_ns ? 1 : 0;
}

Event Recorder::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) {
  if (!recording_) return inner_.all_to_all(call, outbox, send, inbox, receive, after);
  const int64_t begin_ns = trace_.now_ns();
  const Event event = inner_.all_to_all(call, outbox, send, inbox, receive, after);
  const int64_t end_ns = trace_.now_ns();
  const size_t use = use_of(outbox);
  const size_t number = begin(use == 0 ? CallKind::kTransfer : CallKind::kBucketTransfer, call);
  calls_[number].outbox = asked_[use].stay;
  calls_[number].issue = {begin_ns, end_ns};
  asked_[use] = {};
  const int64_t row_bytes = outbox.columns() * size_of(outbox.dtype());
  for (const Segment& segment : send) bytes_of(number, segment.peer) += segment.rows * row_bytes;
  if (event.ticket != 0) open_.push_back({event.ticket, number});
  if (open_.size() > kMostOpen) open_.erase(open_.begin());
  return event;
}

void Recorder::wait(Event event) {
  const auto found = std::find_if(open_.begin(), open_.end(), [&](const Open& open) { return open.ticket == event.ticket; });
  if (!recording_ || event.ticket == 0 || found == open_.end()) return inner_.wait(event);
  const int64_t begin_ns = trace_.now_ns();
  inner_.wait(event);
  calls_[found->call].wait = {begin_ns, trace_.now_ns()};
  open_.erase(found);
}

void Recorder::abort(ExitCode code) {
  inner_.abort(code);
  std::abort();  // not reached
}

}  // namespace switchyard
