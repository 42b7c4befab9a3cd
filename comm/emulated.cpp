#include "comm/emulated.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <utility>

#include "comm/transfers.h"

namespace switchyard {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kYielding = 100'000;  // ns before a deadline: timers are this late

class MonotonicClock final : public LinkClock {
 public:
  int64_t now_ns() override {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * kSecond + now.tv_nsec;
  }
  void sleep_until(int64_t ns) override {
    const int64_t early = ns - kYielding;
    const timespec until{early / kSecond, early % kSecond};
    while (now_ns() < early) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);  // again where a signal woke it
    while (now_ns() < ns) sched_yield();
  }
};

int64_t to_ns(double seconds) { return std::llround(seconds * static_cast<double>(kSecond)); }

// When a sender's way out begins with a transfer and is through with it. Travels as one row.
struct Stamp {
  int64_t begins = 0;
  int64_t ends = 0;
};
static_assert(sizeof(Stamp) == 16);

// Until when this rank's links are taken. Groups split from one another share it.
struct Port {
  int64_t out_free = 0;
  int64_t in_free = 0;
};

// One all_to_all on this rank.
struct Flight {
  bool pending = false;
  bool timed = false;             // `arrives` is known
  uint64_t order = 0;             // of issue
  Event payload, stamped;         // of the two communicators
  int64_t leaves = 0;             // ns: the way out is through
  int64_t arrives = 0;            // ns: the way in is through
  std::vector<int64_t> entering;  // [P] bytes from each sender
  std::vector<Stamp> stamps;      // [P]
};

class EmulatedCommunicator final : public Communicator {
 public:
  EmulatedCommunicator(std::unique_ptr<Communicator> inner, std::unique_ptr<Communicator> stamps, EmulatedLink link, std::shared_ptr<LinkClock> clock,
                       std::shared_ptr<Port> port)
      : inner_(std::move(inner)), stamps_(std::move(stamps)), link_(std::move(link)), clock_(std::move(clock)), port_(std::move(port)) {
    check(static_cast<int>(link_.hosts.size()) == size(), "an emulated link knows the host of another number of ranks");
    check(stamps_->size() == size() && stamps_->rank() == rank(), "an emulated link was given two communicators of different ranks");
    for (Flight& flight : flights_) {
      flight.entering.assign(link_.hosts.size(), 0);
      flight.stamps.assign(link_.hosts.size(), {});
    }
    leaving_.assign(link_.hosts.size(), 0);
  }

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::unique_ptr<Communicator> split(int color, int key) override;

  void barrier(Call call) override {
    inner_->barrier(call);
    occupy(tree(0));
  }
  void broadcast(Call call, Tensor tensor, int root) override {
    inner_->broadcast(call, tensor, root);
    occupy(tree(tensor.bytes()));
  }
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override;
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override {
    inner_->reduce(call, values, reduction);
    occupy(tree(static_cast<int64_t>(values.size_bytes())));
  }

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override;
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override;
  void wait(Event event) override {
    for (Flight& flight : flights_) {
      if (flight.pending && flight.payload.ticket == event.ticket) complete(flight);
    }
  }

  [[noreturn]] void abort(ExitCode code) override {
    inner_->abort(code);
    std::abort();  // not reached
  }
  int64_t bytes_sent() const override { return inner_->bytes_sent(); }

 private:
  Flight& next_flight(OutboxUse use) { return flights_[2 * static_cast<size_t>(use) + turn_[static_cast<size_t>(use)]]; }
  const Link& slowest() const;
  // Seconds of a tree of messages of so many bytes.
  double tree(int64_t bytes) const { return std::bit_width(static_cast<unsigned>(size() - 1)) * slowest().seconds(bytes); }
  // Takes both links for a collective and waits for its end.
  void occupy(double seconds);
  // Sends the stamp of a flight that was issued at `now`.
  void stamp(Call call, Flight& flight, OutboxUse use, int64_t now);
  // Learns when a flight arrives, and before that when those issued earlier do: the way in serves them in order.
  void time(Flight& flight);
  void complete(Flight& flight);

  std::unique_ptr<Communicator> inner_;
  std::unique_ptr<Communicator> stamps_;
  EmulatedLink link_;
  std::shared_ptr<LinkClock> clock_;
  std::shared_ptr<Port> port_;
  std::array<Flight, kBoxes> flights_;
  std::array<size_t, 2> turn_{};
  std::array<const void*, 2> handed_out_{};  // by use: the outbox that was handed out last
  uint64_t issued_ = 0;
  std::vector<int64_t> leaving_;  // [P] bytes to each receiver
  std::vector<Segment> stamps_out_, stamps_in_;
  std::vector<int> arrivals_;  // senders in order of their stamps
};

std::unique_ptr<Communicator> EmulatedCommunicator::split(int color, int key) {
  std::unique_ptr<Communicator> inner = inner_->split(color, key);
  std::unique_ptr<Communicator> stamps = stamps_->split(color, key);
  const std::vector<int64_t> ones(static_cast<size_t>(inner->size()), 1);
  int32_t host = link_.hosts[static_cast<size_t>(rank())];
  std::vector<int> hosts(ones.size());
  stamps->all_gather({"emulated hosts", -1}, Tensor(&host, Dtype::kI32, {1, 1}), Tensor(hosts.data(), Dtype::kI32, {inner->size(), 1}), ones);
  return std::make_unique<EmulatedCommunicator>(std::move(inner), std::move(stamps), EmulatedLink{link_.model, std::move(hosts)}, clock_, port_);
}

void EmulatedCommunicator::all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) {
  inner_->all_gather(call, mine, all, rows);
  const int64_t row_bytes = mine.columns() * size_of(mine.dtype());
  double leaving = 0;
  double entering = 0;
  for (int peer = 0; peer < size(); ++peer) {
    leaving += message_seconds(link_.model, link_.hosts, rank(), peer, mine.bytes());
    entering += message_seconds(link_.model, link_.hosts, peer, rank(), rows[static_cast<size_t>(peer)] * row_bytes);
  }
  occupy(std::max(leaving, entering));
}

Tensor EmulatedCommunicator::outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) {
  Flight& last = next_flight(use);
  if (last.pending) complete(last);
  clock_->sleep_until(last.leaves);
  const Tensor result = inner_->outbox(use, dtype, rows, columns);
  handed_out_[static_cast<size_t>(use)] = result.data();
  return result;
}

Event EmulatedCommunicator::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive,
                                       Event after) {
  wait(after);
  const int64_t now = clock_->now_ns();
  const Event payload = inner_->all_to_all(call, outbox, send, inbox, receive, {});
  const OutboxUse use = outbox.data() == handed_out_[0] ? OutboxUse::kExchange : OutboxUse::kBucket;
  Flight& flight = next_flight(use);
  turn_[static_cast<size_t>(use)] ^= 1;
  flight.pending = true;
  flight.timed = false;
  flight.order = ++issued_;
  flight.payload = payload;
  const int64_t row_bytes = outbox.columns() * size_of(outbox.dtype());
  std::fill(leaving_.begin(), leaving_.end(), 0);
  std::fill(flight.entering.begin(), flight.entering.end(), 0);
  for (const Segment& segment : send) leaving_[static_cast<size_t>(segment.peer)] += segment.rows * row_bytes;
  for (const Segment& segment : receive) flight.entering[static_cast<size_t>(segment.peer)] += segment.rows * row_bytes;
  stamp(call, flight, use, now);
  return payload;
}

void EmulatedCommunicator::stamp(Call call, Flight& flight, OutboxUse use, int64_t now) {
  double taken = 0;
  stamps_out_.clear();
  stamps_in_.clear();
  for (int peer = 0; peer < size(); ++peer) {
    const int64_t bytes = leaving_[static_cast<size_t>(peer)];
    taken += message_seconds(link_.model, link_.hosts, rank(), peer, bytes);
    if (peer == rank()) continue;
    if (bytes > 0) stamps_out_.push_back({peer, 0, 1});
    if (flight.entering[static_cast<size_t>(peer)] > 0) stamps_in_.push_back({peer, peer, 1});
  }
  Stamp mine;
  mine.begins = std::max(now, port_->out_free);
  mine.ends = mine.begins + to_ns(taken);
  flight.leaves = mine.ends;
  port_->out_free = mine.ends;
  const Tensor outbox = stamps_->outbox(use, Dtype::kI32, 1, 4);
  *static_cast<Stamp*>(outbox.data()) = mine;
  const Tensor inbox(flight.stamps.data(), Dtype::kI32, {size(), 4});
  flight.stamped = stamps_->all_to_all(call, outbox, stamps_out_, inbox, stamps_in_, {});
}

void EmulatedCommunicator::time(Flight& flight) {
  while (!flight.timed) {
    Flight* first = &flight;
    for (Flight& other : flights_) {
      if (other.pending && !other.timed && other.order < first->order) first = &other;
    }
    stamps_->wait(first->stamped);
    const auto begins = [&](int sender) { return first->stamps[static_cast<size_t>(sender)].begins; };
    arrivals_.clear();
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank() && first->entering[static_cast<size_t>(peer)] > 0) arrivals_.push_back(peer);
    }
    std::sort(arrivals_.begin(), arrivals_.end(), [&](int a, int b) { return std::pair(begins(a), a) < std::pair(begins(b), b); });
    int64_t through = port_->in_free;
    int64_t last_sender = 0;
    for (const int sender : arrivals_) {
      through =
          std::max(through, begins(sender)) + to_ns(message_seconds(link_.model, link_.hosts, sender, rank(), first->entering[static_cast<size_t>(sender)]));
      last_sender = std::max(last_sender, first->stamps[static_cast<size_t>(sender)].ends);
    }
    port_->in_free = through;
    first->arrives = arrivals_.empty() ? 0 : std::max(through, last_sender);
    first->timed = true;
  }
}

void EmulatedCommunicator::complete(Flight& flight) {
  inner_->wait(flight.payload);
  time(flight);
  clock_->sleep_until(flight.arrives);
  flight.pending = false;
}

const Link& EmulatedCommunicator::slowest() const {
  const bool one_host = std::all_of(link_.hosts.begin(), link_.hosts.end(), [&](int host) { return host == link_.hosts.front(); });
  return one_host ? link_.model.within_host : link_.model.between_hosts;
}

void EmulatedCommunicator::occupy(double seconds) {
  const int64_t begins = std::max({clock_->now_ns(), port_->out_free, port_->in_free});
  const int64_t ends = begins + to_ns(seconds);
  if (seconds > 0) port_->out_free = port_->in_free = ends;
  clock_->sleep_until(seconds > 0 ? ends : 0);
}

}  // namespace

std::unique_ptr<LinkClock> make_monotonic_clock() { return std::make_unique<MonotonicClock>(); }

std::unique_ptr<Communicator> make_emulated_communicator(std::unique_ptr<Communicator> inner, std::unique_ptr<Communicator> stamps, EmulatedLink link,
                                                         std::shared_ptr<LinkClock> clock) {
  return std::make_unique<EmulatedCommunicator>(std::move(inner), std::move(stamps), std::move(link), std::move(clock), std::make_shared<Port>());
}

}  // namespace switchyard
