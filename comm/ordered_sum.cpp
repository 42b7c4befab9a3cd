#include "comm/ordered_sum.h"

#include <algorithm>

namespace switchyard {

BucketLayout divide_bucket(std::span<const int64_t> block_elements, int ranks) {
  int64_t total = 0;
  for (int64_t elements : block_elements) total += elements;
  BucketLayout layout;
  layout.begin.assign(static_cast<size_t>(ranks) + 1, total);
  layout.begin[0] = 0;
  int64_t start = 0;
  int owner = 0;
  for (int64_t elements : block_elements) {
    // The block goes to the rank in whose equal share its middle lies.
    const int wanted = std::min<int>(ranks - 1, static_cast<int>((start + elements / 2) * ranks / std::max<int64_t>(1, total)));
    while (owner < wanted) layout.begin[static_cast<size_t>(++owner)] = start;
    start += elements;
  }
  return layout;
}

OrderedSum::OrderedSum(Communicator& communicator, Backend& backend, const Grid& grid, Trace& trace, Dtype exact, std::vector<BucketLayout> buckets)
    : communicator_(communicator), backend_(backend), grid_(grid), trace_(trace), exact_(exact), buckets_(std::move(buckets)) {
  int64_t largest = 0;
  for (const BucketLayout& bucket : buckets_) largest = std::max(largest, bucket.range_elements(grid.rank()));
  for (Buffer& inbox : inboxes_) inbox = make_buffer(exact_, {largest * (grid.size() - 1)}, backend.memory());
  send_segments_.reserve(static_cast<size_t>(grid.size()));
  receive_segments_.reserve(static_cast<size_t>(grid.size()));
}

void OrderedSum::send(int bucket, int lane, Tensor gradient, Tensor sums) {
  Span span(trace_, SpanKind::kGradientSum, "gradient_sum");
  Pending& pending = pending_[static_cast<size_t>(next_)];
  complete(pending);
  const BucketLayout& layout = buckets_[static_cast<size_t>(bucket)];
  const int64_t own = layout.range_elements(grid_.rank());
  Tensor inbox = inboxes_[static_cast<size_t>(next_)].tensor(exact_, {own * (grid_.size() - 1), 1});
  pending = {true, bucket, lane - grid_.rank(), gradient, sums, inbox, Event{}};
  next_ = 1 - next_;
  if (grid_.size() > 1) post(pending, lane >= grid_.lanes());
  span.add_bytes(grid_.size() > 1 && lane < grid_.lanes() ? (layout.elements() - own) * size_of(exact_) : 0);
}

void OrderedSum::post(Pending& pending, bool empty_lane) {
  const BucketLayout& layout = buckets_[static_cast<size_t>(pending.bucket)];
  const int me = grid_.rank();
  const int64_t own = layout.range_elements(me);
  Tensor outbox = communicator_.outbox(OutboxUse::kBucket, exact_, empty_lane ? 0 : layout.elements() - own, 1);
  send_segments_.clear();
  receive_segments_.clear();
  int64_t packed = 0;
  for (int peer = 0; peer < grid_.size(); ++peer) {
    if (peer == me) continue;
    const int64_t rows = layout.range_elements(peer);
    if (!empty_lane && rows > 0) {
      const Tensor range = pending.gradient.slice_rows(layout.begin[static_cast<size_t>(peer)], rows).reshape({rows, 1});
      backend_.convert(Out(outbox.slice_rows(packed, rows)), range);
      send_segments_.push_back({peer, packed, rows});
      packed += rows;
    }
    if (pending.first_lane + peer < grid_.lanes() && own > 0) receive_segments_.push_back({peer, own * (peer < me ? peer : peer - 1), own});
  }
  pending.event = communicator_.all_to_all({"gradient_sum", -1}, outbox, send_segments_, pending.inbox, receive_segments_, Event{});
}

Tensor OrderedSum::piece(const Pending& pending, int rank) const {
  const BucketLayout& layout = buckets_[static_cast<size_t>(pending.bucket)];
  const int me = grid_.rank();
  const int64_t own = layout.range_elements(me);
  if (rank == me) return pending.gradient.slice_rows(layout.begin[static_cast<size_t>(me)], own);
  return pending.inbox.slice_rows(own * (rank < me ? rank : rank - 1), own).reshape({own});
}

void OrderedSum::complete(Pending& pending) {
  if (!pending.active) return;
  if (grid_.size() > 1) communicator_.wait(pending.event);
  for (int rank = 0; rank < grid_.size(); ++rank) {
    const int lane = pending.first_lane + rank;
    if (lane >= grid_.lanes()) break;
    const Tensor term = piece(pending, rank);
    if (term.data() != pending.sums.data()) backend_.convert(Target{pending.sums, lane > 0}, term);
  }
  pending.active = false;
}

void OrderedSum::finish() {
  Span span(trace_, SpanKind::kGradientSum, "gradient_sum_finish");
  complete(pending_[static_cast<size_t>(next_)]);  // the older one first
  complete(pending_[static_cast<size_t>(1 - next_)]);
}

int64_t OrderedSum::reserved_bytes() const { return inboxes_[0].bytes() + inboxes_[1].bytes(); }

}  // namespace switchyard
