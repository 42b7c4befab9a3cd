#include "comm/two_level.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

#include "comm/mpi.h"
#include "comm/transfers.h"
#include "comm/two_level_plan.h"

namespace switchyard {
namespace {

constexpr int64_t kAllRows = int64_t{1} << 60;  // of a round: more than there are

// One all_to_all on this rank.
struct Journey {
  bool pending = false;    // its rows have not all arrived here
  bool delivered = false;  // this rank has handed out what it received for its host
  uint64_t ticket = 0;
  Call call;
  Tensor inbox;
  SegmentTable send, receive;
  std::vector<int64_t> mine, counts;  // [2, P] and [g, 2, P], see HostCounts
  Event across;
  Buffer arrived;                 // rows for the ranks of this host
  std::vector<Event> deliveries;  // one per round
};

class TwoLevel final : public TwoLevelCommunicator {
 public:
  explicit TwoLevel(TwoLevelParts parts) : parts_(std::move(parts)), map_(parts_.hosts) {
    const int places = static_cast<int>(map_.members(map_.host(parts_.across->rank())).size());
    check(map_.ranks() == size(), "a two-level communicator knows the host of another number of ranks");
    for (const Communicator* inside : {parts_.collect.get(), parts_.deliver.get()})
      check(inside->size() == places && inside->rank() == map_.place(rank()), "a two-level communicator was given other ranks than its host's");
    ones_.assign(static_cast<size_t>(places), 1);
  }
  ~TwoLevel() override {
    if (std::uncaught_exceptions() > 0) return;  // the peers may never come
    try {
      deliver_until(tickets_);  // others of this host may still wait for it
    } catch (const std::exception&) {
      return;  // the peer that is the cause tells it
    }
  }

  int rank() const override { return parts_.across->rank(); }
  int size() const override { return parts_.across->size(); }
  std::unique_ptr<Communicator> split(int color, int key) override;

  void barrier(Call call) override {
    deliver_until(tickets_);
    parts_.across->barrier(call);
  }
  void broadcast(Call call, Tensor tensor, int root) override {
    deliver_until(tickets_);
    parts_.across->broadcast(call, tensor, root);
    if (rank() == root) bytes_sent_ += tensor.bytes() * (size() - 1);
  }
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override {
    deliver_until(tickets_);
    parts_.across->all_gather(call, mine, all, rows);
    bytes_sent_ += mine.bytes() * (size() - 1);
  }
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override {
    deliver_until(tickets_);
    parts_.across->reduce(call, values, reduction);
  }

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override {
    deliver_until(tickets_);
    const Journey& last = journeys_[box_of(use)];
    if (last.pending) wait(Event{last.ticket});
    const Tensor result = parts_.collect->outbox(use, dtype, rows, columns);
    handed_out_[static_cast<size_t>(use)] = result.data();
    return result;
  }
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override;
  void wait(Event event) override;

  [[noreturn]] void abort(ExitCode code) override {
    parts_.across->abort(code);
    std::abort();  // not reached
  }
  int64_t bytes_sent() const override { return bytes_sent_; }
  const HostTraffic& traffic() const override { return traffic_; }

 private:
  size_t box_of(OutboxUse use) const { return 2 * static_cast<size_t>(use) + turn_[static_cast<size_t>(use)]; }
  OutboxUse use_of(const Tensor& outbox) const;
  HostCounts counts_of(const Journey& journey) const { return {journey.counts, size()}; }
  // Every rank of the host learns what the others send and expect.
  void share_counts(Journey& journey);
  // Rows for this rank's host come together here, those for this rank go to its inbox, those for other hosts leave.
  void collect_and_send(Journey& journey, OutboxUse use, const Tensor& outbox);
  // Delivers all journeys up to this ticket, in order, as every rank of the host does.
  void deliver_until(uint64_t ticket);
  void deliver(Journey& journey);

  TwoLevelParts parts_;
  HostMap map_;
  std::vector<int64_t> ones_;  // [g]
  std::array<Journey, kBoxes> journeys_;
  std::array<size_t, 2> turn_{};
  std::array<const void*, 2> handed_out_{};  // by use
  uint64_t tickets_ = 0;
  uint64_t delivered_ = 0;  // all up to this ticket
  int64_t bytes_sent_ = 0;
  HostTraffic traffic_;
  TwoLevelPlan plan_;
  Delivery delivery_;
  std::vector<Segment> out_, in_;  // of a round
};

std::unique_ptr<Communicator> TwoLevel::split(int color, int key) {
  deliver_until(tickets_);
  TwoLevelParts parts;
  parts.across = parts_.across->split(color, key);
  parts.collect = parts_.collect->split(color, key);
  parts.deliver = parts_.deliver->split(color, key);
  parts.deliver_bytes = parts_.deliver_bytes;
  int32_t host = map_.host(rank());
  parts.hosts.resize(static_cast<size_t>(parts.across->size()));
  const std::vector<int64_t> ones(parts.hosts.size(), 1);
  parts.across->all_gather({"split", -1}, Tensor(&host, Dtype::kI32, {1, 1}), Tensor(parts.hosts.data(), Dtype::kI32, {parts.across->size(), 1}), ones);
  return std::make_unique<TwoLevel>(std::move(parts));
}

OutboxUse TwoLevel::use_of(const Tensor& outbox) const {
  for (const OutboxUse use : {OutboxUse::kExchange, OutboxUse::kBucket}) {
    if (outbox.data() != nullptr && handed_out_[static_cast<size_t>(use)] == outbox.data()) return use;
  }
  throw InternalError("all_to_all: its first tensor is not an outbox that was handed out and not yet sent");
}

Event TwoLevel::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) {
  deliver_until(tickets_);
  wait(after);
  const OutboxUse use = use_of(outbox);
  check_operand(outbox);
  check_operand(inbox);
  check(outbox.dtype() == inbox.dtype() && outbox.columns() == inbox.columns(), "all_to_all: outbox and inbox differ in dtype or row width");
  Journey& journey = journeys_[box_of(use)];
  journey.send.build(send, size(), outbox.rows());
  journey.receive.build(receive, size(), inbox.rows());
  check(journey.send.rows(rank()) == journey.receive.rows(rank()), "all_to_all: a rank sends itself another number of rows than it expects");
  handed_out_[static_cast<size_t>(use)] = nullptr;
  turn_[static_cast<size_t>(use)] ^= 1;
  journey.pending = true;
  journey.delivered = false;
  journey.ticket = ++tickets_;
  journey.call = call;
  journey.inbox = inbox;
  share_counts(journey);
  collect_and_send(journey, use, outbox);
  return Event{journey.ticket};
}

void TwoLevel::share_counts(Journey& journey) {
  const size_t ranks = static_cast<size_t>(size());
  journey.mine.resize(2 * ranks);
  journey.counts.resize(2 * ranks * ones_.size());
  for (int peer = 0; peer < size(); ++peer) {
    journey.mine[static_cast<size_t>(peer)] = journey.send.rows(peer);
    journey.mine[ranks + static_cast<size_t>(peer)] = journey.receive.rows(peer);
  }
  const int64_t words = 4 * size();  // of 32 bits
  const int64_t places = static_cast<int64_t>(ones_.size());
  parts_.collect->all_gather(journey.call, Tensor(journey.mine.data(), Dtype::kI32, {1, words}), Tensor(journey.counts.data(), Dtype::kI32, {places, words}),
                             ones_);
}

void TwoLevel::collect_and_send(Journey& journey, OutboxUse use, const Tensor& outbox) {
  const int64_t columns = outbox.columns();
  const int64_t row_bytes = columns * size_of(outbox.dtype());
  const HostCounts counts = counts_of(journey);
  plan_.build(map_, rank(), counts, journey.send);
  const Tensor staging = parts_.across->outbox(use, outbox.dtype(), plan_.staged_rows, columns);
  parts_.collect->wait(parts_.collect->all_to_all(journey.call, outbox, plan_.collect_out, staging, plan_.collect_in, {}));
  int64_t row = plan_.local_first_row;
  for (const int mate : map_.members(map_.host(rank()))) {
    const Run local{row, counts.sent(map_.place(mate), rank())};
    copy_runs({&local, 1}, static_cast<const char*>(staging.data()), journey.receive.runs(mate), static_cast<char*>(journey.inbox.data()), row_bytes);
    row += local.rows;
  }
  const int64_t bytes = plan_.arrived_rows * row_bytes;
  if (journey.arrived.bytes() < bytes) {
    journey.arrived = Buffer();  // frees first
    journey.arrived = Buffer(bytes + bytes / 2);
  }
  const Tensor arrived(journey.arrived.data(), outbox.dtype(), {plan_.arrived_rows, columns});
  journey.across = parts_.across->all_to_all(journey.call, staging, plan_.across_out, arrived, plan_.across_in, {});
  for (int peer = 0; peer < size(); ++peer) bytes_sent_ += peer == rank() ? 0 : journey.send.rows(peer) * row_bytes;
  for (const Segment& segment : plan_.collect_out) traffic_.bytes_within_host += segment.peer == map_.place(rank()) ? 0 : segment.rows * row_bytes;
  for (const Segment& segment : plan_.across_out) traffic_.bytes_between_hosts += segment.rows * row_bytes;
  traffic_.messages_between_hosts += static_cast<int64_t>(plan_.across_out.size());
}

void TwoLevel::deliver_until(uint64_t ticket) {
  while (delivered_ < ticket) {
    // Of the journeys under way; a ticket that has none was cut short by an error.
    for (Journey& journey : journeys_) {
      if (journey.pending && !journey.delivered && journey.ticket == delivered_ + 1) deliver(journey);
    }
    ++delivered_;
  }
}

void TwoLevel::deliver(Journey& journey) {
  const Dtype dtype = journey.inbox.dtype();
  const int64_t columns = journey.inbox.columns();
  const int64_t row_bytes = columns * size_of(dtype);
  journey.delivered = true;
  journey.deliveries.clear();
  parts_.across->wait(journey.across);
  const bool grows = parts_.deliver_bytes == 0 || row_bytes == 0;
  delivery_.begin(map_, rank(), counts_of(journey), journey.receive, grows ? kAllRows : std::max<int64_t>(parts_.deliver_bytes / row_bytes, 1));
  for (int64_t round = 0; round < delivery_.rounds(); ++round) {
    const Run rows = delivery_.handed_out(round);
    const Tensor outbox = parts_.deliver->outbox(OutboxUse::kExchange, dtype, rows.rows, columns);
    if (outbox.bytes() > 0)
      std::memcpy(outbox.data(), static_cast<const char*>(journey.arrived.data()) + rows.first_row * row_bytes, static_cast<size_t>(outbox.bytes()));
    delivery_.next(round, out_, in_);
    journey.deliveries.push_back(parts_.deliver->all_to_all(journey.call, outbox, out_, journey.inbox, in_, {}));
    for (const Segment& segment : out_) traffic_.bytes_within_host += segment.peer == map_.place(rank()) ? 0 : segment.rows * row_bytes;
  }
}

void TwoLevel::wait(Event event) {
  for (Journey& journey : journeys_) {
    if (!journey.pending || journey.ticket != event.ticket) continue;
    deliver_until(event.ticket);
    for (const Event& delivery : journey.deliveries) parts_.deliver->wait(delivery);
    journey.pending = false;
  }
}

}  // namespace

std::unique_ptr<TwoLevelCommunicator> make_two_level_communicator(TwoLevelParts parts) { return std::make_unique<TwoLevel>(std::move(parts)); }

TwoLevelOverMpi make_two_level_over_mpi(MPI_Comm parent, OutboxSizes sizes, std::span<const int> hosts, const WindowOptions& options) {
  const Call call{"start", -1};
  TwoLevelParts parts;
  parts.across = make_mpi_communicator(parent, {});
  parts.hosts.assign(hosts.begin(), hosts.end());
  const int rank = parts.across->rank();
  const HostMap map(parts.hosts);
  MPI_Comm inside = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(parent, map.host(rank), rank, &inside), "MPI_Comm_split", rank, call);
  const MpiComm host(inside);
  parts.deliver_bytes = std::max(sizes.exchange_bytes, sizes.bucket_bytes);
  WindowOrMpi collect = make_window_communicator(host.get(), sizes, options);
  WindowOrMpi deliver = make_window_communicator(host.get(), {parts.deliver_bytes, 0}, options);
  int64_t windows = collect.fallback.empty() && deliver.fallback.empty() ? 1 : 0;
  parts.collect = std::move(collect.communicator);
  parts.deliver = std::move(deliver.communicator);
  parts.across->reduce(call, {&windows, 1}, Reduction::kMin);
  return {make_two_level_communicator(std::move(parts)), windows != 0};
}

}  // namespace switchyard
