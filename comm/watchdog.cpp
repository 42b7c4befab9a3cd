#include "comm/watchdog.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "comm/watchdog_line.h"
#include "comm/watchdog_report.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;
using Duration = Clock::duration;
using std::chrono::milliseconds;

constexpr milliseconds kLongestTick{1000};
constexpr milliseconds kShortestTick{5};
constexpr milliseconds kLinger{200};  // for the launcher to pass the sentence on before it ends the job

template <size_t size>
void copy_text(const char* text, char (&target)[size]) {
  const std::string_view whole = text;
  target[whole.copy(target, size - 1)] = 0;
}

}  // namespace

// The thread and what it shares with the rank's own.
class Watchdog::Guard {
 public:
  Guard(Communicator& comm, WatchdogOptions options);
  ~Guard();

  void enter(const char* operation, Call call) { note(operation, call, true); }
  void leave() { note(nullptr, {}, false); }
  void set_deadline(milliseconds deadline) {
    deadline_.store(deadline.count());
    wake();
  }

 private:
  void note(const char* operation, Call call, bool waiting);
  void wake() const;

  // All below run on the watchdog's thread.
  void run();
  // Waits for a message or for `most`, then handles what has come. False where the watchdog is to end.
  bool listen(Duration most);
  void handle(const WatchdogLine::Message& message);
  Duration tick() const;
  RankState state();
  bool expired();
  // Asks everybody where they are and sees to it that somebody tells.
  void investigate();
  void gather_states();
  void tell(WatchdogLine::Kind kind, int peer) { line_.send(peer, kind, state()); }
  void tell_all(WatchdogLine::Kind kind);
  void report();
  void end();

  const int rank_;
  const int size_;
  WatchdogOptions options_;
  std::atomic<int64_t> deadline_;  // milliseconds
  std::atomic<bool> stopping_{false};
  int wake_ = -1;

  std::mutex mutex_;
  const char* operation_ = "";
  Call call_;
  uint64_t number_ = 0;
  bool waiting_ = false;
  uint64_t changes_ = 0;  // of the five above

  uint64_t seen_ = 0;                             // changes_ when the thread looked last
  Duration alive_{0};                             // this process's time, without the time in which it was stopped
  Duration since_{0};                             // alive_ when changes_ was last found changed
  Clock::time_point looked_ = Clock::now();       // when alive_ was brought up to date
  std::vector<std::optional<RankState>> states_;  // [P] what is heard while investigating
  bool asked_to_tell_ = false;
  bool ended_ = false;
  WatchdogLine line_;
  std::thread thread_;
};

Watchdog::Guard::Guard(Communicator& comm, WatchdogOptions options)
    : rank_(comm.rank()),
      size_(comm.size()),
      options_(std::move(options)),
      deadline_(options_.deadline.count()),
      states_(static_cast<size_t>(size_)),
      line_(comm) {
  wake_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_ < 0) throw Error(ExitCode::kFailure, "cannot open a descriptor for the watchdog; is the limit of open files too low (ulimit -n)?");
  // Signals are for the rank's own thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::Guard::~Guard() {
  stopping_.store(true);
  wake();
  thread_.join();
  close(wake_);
}

void Watchdog::Guard::note(const char* operation, Call call, bool waiting) {
  const std::lock_guard lock(mutex_);
  if (waiting) {
    operation_ = operation;
    call_ = call;
    ++number_;
  }
  waiting_ = waiting;
  ++changes_;
}

void Watchdog::Guard::wake() const {
  const uint64_t one = 1;
  (void)!write(wake_, &one, sizeof one);
}

void Watchdog::Guard::run() {
  while (listen(tick())) {
    if (asked_to_tell_) {
      gather_states();
      report();
    } else if (expired()) {
      investigate();
    }
  }
}

bool Watchdog::Guard::listen(Duration most) {
  const Duration step = std::clamp<Duration>(most, Duration(0), kLongestTick);
  std::array<pollfd, 2> descriptors = {pollfd{wake_, POLLIN, 0}, pollfd{line_.descriptor(), POLLIN, 0}};
  poll(descriptors.data(), descriptors.size(), static_cast<int>(std::chrono::ceil<milliseconds>(step).count()));
  const Clock::time_point now = Clock::now();
  alive_ += std::min<Duration>(now - looked_, 2 * kLongestTick);
  looked_ = now;
  uint64_t woken = 0;
  (void)!read(wake_, &woken, sizeof woken);
  while (!ended_) {
    const auto message = line_.receive();
    if (!message) break;
    handle(*message);
  }
  return !ended_ && !stopping_.load();
}

void Watchdog::Guard::handle(const WatchdogLine::Message& message) {
  switch (message.kind) {
    case WatchdogLine::Kind::kAsk: tell(WatchdogLine::Kind::kState, message.rank); break;
    case WatchdogLine::Kind::kState: states_[static_cast<size_t>(message.rank)] = message.state; break;
    case WatchdogLine::Kind::kTell: asked_to_tell_ = true; break;
    case WatchdogLine::Kind::kEnd: end(); break;
  }
}

Duration Watchdog::Guard::tick() const {
  const milliseconds deadline{deadline_.load()};
  if (deadline.count() == 0) return kLongestTick;
  return std::clamp<Duration>(deadline / 20, kShortestTick, kLongestTick);
}

RankState Watchdog::Guard::state() {
  const std::lock_guard lock(mutex_);
  if (changes_ != seen_) since_ = alive_;
  seen_ = changes_;
  RankState result;
  result.number = number_;
  result.seconds = std::chrono::duration<double>(alive_ - since_).count();
  result.layer = call_.layer;
  result.waiting = waiting_ ? 1 : 0;
  copy_text(operation_, result.operation);
  copy_text(call_.name, result.name);
  return result;
}

bool Watchdog::Guard::expired() {
  const RankState now = state();
  const milliseconds deadline{deadline_.load()};
  return deadline.count() > 0 && now.waiting != 0 && alive_ - since_ >= deadline;
}

void Watchdog::Guard::gather_states() {
  constexpr int kAsked = 5;  // times: datagrams get lost
  std::fill(states_.begin(), states_.end(), std::nullopt);
  const auto missing = [&] { return std::count(states_.begin(), states_.end(), std::nullopt) > 1; };  // but for this rank
  for (int i = 0; i < kAsked && missing(); ++i) {
    for (int peer = 0; peer < size_; ++peer) {
      if (peer != rank_ && !states_[static_cast<size_t>(peer)]) tell(WatchdogLine::Kind::kAsk, peer);
    }
    const Clock::time_point until = Clock::now() + options_.patience / kAsked;
    while (missing() && Clock::now() < until && listen(until - Clock::now())) {
    }
  }
  states_[static_cast<size_t>(rank_)] = state();
}

void Watchdog::Guard::investigate() {
  gather_states();
  if (ended_ || stopping_.load() || !expired()) return;  // told by another, or over
  const auto heard = std::find_if(states_.begin(), states_.end(), [](const auto& state) { return state.has_value(); });
  const int teller = static_cast<int>(heard - states_.begin());
  if (teller != rank_) {
    tell(WatchdogLine::Kind::kTell, teller);
    const Clock::time_point until = Clock::now() + 3 * options_.patience;
    while (Clock::now() < until && listen(until - Clock::now())) {
    }
  }
  if (!ended_ && !stopping_.load()) report();
}

void Watchdog::Guard::tell_all(WatchdogLine::Kind kind) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_) tell(kind, peer);
  }
}

void Watchdog::Guard::report() {
  if (ended_ || stopping_.load()) return;
  options_.say(hang_report(states_, std::time(nullptr)));
  std::this_thread::sleep_for(kLinger);
  tell_all(WatchdogLine::Kind::kEnd);
  end();
}

void Watchdog::Guard::end() {
  ended_ = true;
  if (options_.leave) {
    options_.leave();
  } else {
    std::_Exit(static_cast<int>(ExitCode::kHang));
  }
}

namespace {

class WatchedCommunicator final : public Communicator {
 public:
  WatchedCommunicator(Watchdog& watchdog, std::unique_ptr<Communicator> inner) : watchdog_(watchdog), inner_(std::move(inner)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    const Watchdog::Stay stay(watchdog_, "split", {"split", -1});
    return std::make_unique<WatchedCommunicator>(watchdog_, inner_->split(color, key));
  }
  void barrier(Call call) override {
    const Watchdog::Stay stay(watchdog_, "barrier", call);
    inner_->barrier(call);
  }
  void broadcast(Call call, Tensor tensor, int root) override {
    const Watchdog::Stay stay(watchdog_, "broadcast", call);
    inner_->broadcast(call, tensor, root);
  }
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override {
    const Watchdog::Stay stay(watchdog_, "all_gather", call);
    inner_->all_gather(call, mine, all, rows);
  }
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override {
    const Watchdog::Stay stay(watchdog_, "reduce", call);
    inner_->reduce(call, values, reduction);
  }
  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override {
    const Watchdog::Stay stay(watchdog_, "outbox", {use == OutboxUse::kExchange ? "exchange" : "bucket", -1});
    return inner_->outbox(use, dtype, rows, columns);
  }
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override {
    const Watchdog::Stay stay(watchdog_, "all_to_all", call);
    const Event event = inner_->all_to_all(call, outbox, send, inbox, receive, after);
    started_[next_++ % started_.size()] = {event.ticket, call};
    return event;
  }
  void wait(Event event) override {
    const Watchdog::Stay stay(watchdog_, "wait", call_of(event));
    inner_->wait(event);
  }
  [[noreturn]] void abort(ExitCode code) override {
    inner_->abort(code);
    std::abort();  // not reached
  }
  int64_t bytes_sent() const override { return inner_->bytes_sent(); }

 private:
  Call call_of(Event event) const {
    const auto found = std::find_if(started_.begin(), started_.end(), [&](const auto& started) { return started.first == event.ticket; });
    return found != started_.end() ? found->second : Call{"an earlier all_to_all", -1};
  }

  Watchdog& watchdog_;
  std::unique_ptr<Communicator> inner_;
  std::array<std::pair<uint64_t, Call>, 16> started_{};  // the last all_to_alls, by ticket
  size_t next_ = 0;
};

}  // namespace

Watchdog::Watchdog(Communicator& comm, WatchdogOptions options) {
  check(options.say != nullptr, "Watchdog: there is nothing to say a sentence with");
  if (comm.size() > 1) guard_ = std::make_unique<Guard>(comm, std::move(options));
}

Watchdog::~Watchdog() = default;

void Watchdog::set_deadline(milliseconds deadline) {
  if (guard_) guard_->set_deadline(deadline);
}

std::unique_ptr<Communicator> Watchdog::watch(std::unique_ptr<Communicator> inner) {
  if (!guard_) return inner;
  return std::make_unique<WatchedCommunicator>(*this, std::move(inner));
}

void Watchdog::enter(const char* operation, Call call) {
  if (guard_) guard_->enter(operation, call);
}

void Watchdog::leave() {
  if (guard_) guard_->leave();
}

}  // namespace switchyard
