#include "comm/thread.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <vector>

#include "comm/transfers.h"

namespace switchyard {
namespace {

// What a rank does, for messages.
struct Doing {
  const char* operation = "";
  Call call;
  bool waiting = false;
};

std::string describe(const char* operation, Call call) { return fmt::format("{} '{}' of layer {}", operation, call.name, call.layer); }

// One rank of a group. Guarded by the world's mutex but for the outboxes' bytes and what `posted` points to.
struct Seat {
  int world_rank = 0;
  Doing doing;
  bool left = false;
  bool taken = false;
  uint64_t meetings = 0;         // rendezvous that this rank has come to
  const void* posted = nullptr;  // its operand of the collective that runs
  int64_t posted_bytes = 0;
  const Transfer* published[kBoxes] = {};  // what it sends, by box
  uint64_t published_ticket[kBoxes] = {};
  uint64_t pulled_ticket[kBoxes] = {};  // the last transfer of which it has all rows, by box
  std::shared_ptr<ThreadGroup> child;   // made by the first rank of a split
  std::unique_ptr<Transfers> transfers;
};

// Shared by a world and all groups split from it.
struct Fate {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<std::string> failure;
  std::chrono::milliseconds deadline;

  void fail(const std::string& sentence) {
    if (!failure) failure = sentence;
    changed.notify_all();
  }
};

}  // namespace

struct ThreadGroup {
  std::shared_ptr<Fate> fate;
  OutboxSizes sizes;
  std::vector<Seat> seats;
};

namespace {

std::shared_ptr<ThreadGroup> make_group(std::shared_ptr<Fate> fate, OutboxSizes sizes, const std::vector<int>& world_ranks) {
  auto group = std::make_shared<ThreadGroup>();
  group->fate = std::move(fate);
  group->sizes = sizes;
  const int size = static_cast<int>(world_ranks.size());
  group->seats = std::vector<Seat>(world_ranks.size());
  for (int rank = 0; rank < size; ++rank) {
    Seat& seat = group->seats[static_cast<size_t>(rank)];
    seat.world_rank = world_ranks[static_cast<size_t>(rank)];
    seat.transfers = std::make_unique<Transfers>(rank, size, sizes);
  }
  return group;
}

// What every rank of the group does, in one sentence.
std::string board(const ThreadGroup& group) {
  std::string text;
  for (const Seat& seat : group.seats) {
    if (!text.empty()) text += "; ";
    text += fmt::format("rank {} ", seat.world_rank);
    if (seat.left) {
      text += "has left";
    } else if (seat.doing.waiting) {
      text += "waits in " + describe(seat.doing.operation, seat.doing.call);
    } else if (*seat.doing.operation == '\0') {
      text += "has not communicated yet";
    } else {
      text += "is outside, last seen in " + describe(seat.doing.operation, seat.doing.call);
    }
  }
  return text;
}

// mine[i] = reduction of mine[i] and theirs[i].
void combine(std::vector<int64_t>& mine, const int64_t* theirs, Reduction reduction) {
  for (size_t i = 0; i < mine.size(); ++i) {
    switch (reduction) {
      case Reduction::kSum: mine[i] = static_cast<int64_t>(static_cast<uint64_t>(mine[i]) + static_cast<uint64_t>(theirs[i])); break;
      case Reduction::kMin: mine[i] = std::min(mine[i], theirs[i]); break;
      case Reduction::kMax: mine[i] = std::max(mine[i], theirs[i]); break;
      case Reduction::kOr: mine[i] |= theirs[i]; break;
    }
  }
}

using Lock = std::unique_lock<std::mutex>;

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadGroup> group, int rank) : group_(std::move(group)), rank_(rank), me_(group_->seats[static_cast<size_t>(rank)]) {}
  ~ThreadCommunicator() override {
    const Lock lock(fate().mutex);
    me_.left = true;
    fate().changed.notify_all();
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(group_->seats.size()); }
  std::unique_ptr<Communicator> split(int color, int key) override;

  void barrier(Call call) override {
    Lock lock(fate().mutex);
    meet(lock, "barrier", call);
  }
  void broadcast(Call call, Tensor tensor, int root) override;
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override;
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override;

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override;
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override;
  void wait(Event event) override {
    if (Transfer* transfer = me_.transfers->find(event)) complete(*transfer);
  }

  [[noreturn]] void abort(ExitCode code) override {
    std::fflush(nullptr);
    std::_Exit(static_cast<int>(code));
  }
  int64_t bytes_sent() const override { return bytes_sent_; }

 private:
  Fate& fate() { return *group_->fate; }
  Seat& seat(int rank) { return group_->seats[static_cast<size_t>(rank)]; }

  // Returns when ready(peer) holds for every peer of `peers` at once. Ready is called under the lock.
  template <class Ready>
  void wait_for(Lock& lock, const char* operation, Call call, std::pair<int, int> peers, Ready ready);
  // Returns when every rank of the group has come here: on all ranks, or on none.
  void meet(Lock& lock, const char* operation, Call call);
  // Meets, and calls use() while every rank's operand is posted. Nobody leaves, not even by an error, before all are
  // through with use().
  template <class Use>
  void collective(const char* operation, Call call, const void* data, int64_t bytes, Use use);
  void check_same_bytes(const char* operation, Call call) const;
  // Pulls the rows of a transfer out of the peers' outboxes.
  void complete(Transfer& transfer);

  std::shared_ptr<ThreadGroup> group_;
  int rank_;
  Seat& me_;
  int64_t bytes_sent_ = 0;
  std::vector<int64_t> reduced_;
};

template <class Ready>
void ThreadCommunicator::wait_for(Lock& lock, const char* operation, Call call, std::pair<int, int> peers, Ready ready) {
  const auto until = std::chrono::steady_clock::now() + fate().deadline;
  me_.doing = {operation, call, true};
  const auto where = [&] { return fmt::format("rank {} waits in {}", me_.world_rank, describe(operation, call)); };
  bool late = false;
  while (true) {
    int peer = peers.first;
    while (peer < peers.second && ready(peer)) ++peer;
    if (peer == peers.second) break;  // even where the world has failed since
    if (fate().failure) throw PeerError(where() + " and leaves, because " + *fate().failure);
    if (seat(peer).left) {
      const std::string sentence = fmt::format("{} for rank {}, which has left: every rank must issue the same operations", where(), seat(peer).world_rank);
      fate().fail(sentence);
      throw PeerError(sentence);
    }
    if (late) {
      const std::string sentence = fmt::format("{} for rank {} since {} ms: {}", where(), seat(peer).world_rank, fate().deadline.count(), board(*group_));
      fate().fail(sentence);
      throw Error(ExitCode::kHang, sentence);
    }
    late = fate().changed.wait_until(lock, until) == std::cv_status::timeout;
  }
  me_.doing.waiting = false;
}

void ThreadCommunicator::meet(Lock& lock, const char* operation, Call call) {
  const uint64_t meeting = ++me_.meetings;
  fate().changed.notify_all();
  try {
    wait_for(lock, operation, call, {0, size()}, [&](int peer) { return seat(peer).meetings >= meeting; });
  } catch (...) {
    --me_.meetings;  // under the lock: whoever comes later does not take this rank for present
    throw;
  }
}

template <class Use>
void ThreadCommunicator::collective(const char* operation, Call call, const void* data, int64_t bytes, Use use) {
  Lock lock(fate().mutex);
  me_.posted = data;
  me_.posted_bytes = bytes;
  meet(lock, operation, call);
  lock.unlock();
  std::exception_ptr failure;
  try {
    use();
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  const uint64_t meeting = ++me_.meetings;
  fate().changed.notify_all();
  // No deadline: the peers are inside use(), which waits for nobody.
  fate().changed.wait(lock, [&] { return std::all_of(group_->seats.begin(), group_->seats.end(), [&](const Seat& s) { return s.meetings >= meeting; }); });
  if (failure) std::rethrow_exception(failure);
}

void ThreadCommunicator::check_same_bytes(const char* operation, Call call) const {
  for (const Seat& peer : group_->seats) {
    if (peer.posted_bytes == me_.posted_bytes) continue;
    throw InternalError(fmt::format("rank {} brings {} bytes to {} where rank {} brings {}", me_.world_rank, me_.posted_bytes, describe(operation, call),
                                    peer.world_rank, peer.posted_bytes));
  }
}

std::unique_ptr<Communicator> ThreadCommunicator::split(int color, int key) {
  struct Choice {
    int color, key;
  };
  const Choice mine{color, key};
  const Call call{"split", -1};
  const auto choice = [&](int rank) { return *static_cast<const Choice*>(seat(rank).posted); };
  std::vector<int> members;
  collective("split", call, &mine, sizeof mine, [&] {
    check_same_bytes("split", call);
    for (int rank = 0; rank < size(); ++rank) {
      if (choice(rank).color == color) members.push_back(rank);
    }
    std::stable_sort(members.begin(), members.end(), [&](int a, int b) { return choice(a).key < choice(b).key; });
    if (members.front() != rank_) return;
    std::vector<int> world_ranks;
    for (int member : members) world_ranks.push_back(seat(member).world_rank);
    me_.child = make_group(group_->fate, group_->sizes, world_ranks);
  });
  std::shared_ptr<ThreadGroup> child;
  collective("split", call, nullptr, 0, [&] { child = seat(members.front()).child; });
  me_.child.reset();
  const auto place = std::find(members.begin(), members.end(), rank_);
  return std::make_unique<ThreadCommunicator>(std::move(child), static_cast<int>(place - members.begin()));
}

void ThreadCommunicator::broadcast(Call call, Tensor tensor, int root) {
  check_operand(tensor);
  check(root >= 0 && root < size(), "broadcast: the root is not a rank of the group");
  collective("broadcast", call, tensor.data(), tensor.bytes(), [&] {
    check_same_bytes("broadcast", call);
    if (rank_ != root && tensor.bytes() > 0) std::memcpy(tensor.data(), seat(root).posted, static_cast<size_t>(tensor.bytes()));
  });
  if (rank_ == root) bytes_sent_ += tensor.bytes() * (size() - 1);
}

void ThreadCommunicator::all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) {
  check_gather(mine, all, rows, rank_, size());
  const int64_t row_bytes = mine.columns() * size_of(mine.dtype());
  collective("all_gather", call, mine.data(), mine.bytes(), [&] {
    char* target = static_cast<char*>(all.data());
    for (int peer = 0; peer < size(); ++peer) {
      const Seat& theirs = seat(peer);
      const int64_t bytes = rows[static_cast<size_t>(peer)] * row_bytes;
      if (theirs.posted_bytes != bytes) {
        throw InternalError(fmt::format("rank {} brings {} bytes to {} where rank {} expects {}", theirs.world_rank, theirs.posted_bytes,
                                        describe("all_gather", call), me_.world_rank, bytes));
      }
      if (bytes > 0 && theirs.posted != target) std::memcpy(target, theirs.posted, static_cast<size_t>(bytes));
      target += bytes;
    }
  });
  bytes_sent_ += mine.bytes() * (size() - 1);
}

void ThreadCommunicator::reduce(Call call, std::span<int64_t> values, Reduction reduction) {
  collective("reduce", call, values.data(), static_cast<int64_t>(values.size_bytes()), [&] {
    check_same_bytes("reduce", call);
    reduced_.assign(values.begin(), values.end());
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank_) combine(reduced_, static_cast<const int64_t*>(seat(peer).posted), reduction);
    }
  });
  std::copy(reduced_.begin(), reduced_.end(), values.begin());
}

Tensor ThreadCommunicator::outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) {
  Transfer& last = me_.transfers->last(use);
  if (last.pending) complete(last);
  {
    Lock lock(fate().mutex);
    wait_for(lock, "outbox", last.call, {0, size()}, [&](int peer) { return seat(peer).pulled_ticket[last.box] >= last.ticket; });
  }
  return me_.transfers->hand_out(use, dtype, rows, columns);
}

Event ThreadCommunicator::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive,
                                     Event after) {
  wait(after);
  Transfer& transfer = me_.transfers->begin(call, outbox, send, inbox, receive);
  bytes_sent_ += transfer.bytes_to_others(rank_, size());
  const Lock lock(fate().mutex);
  me_.published[transfer.box] = &transfer;
  me_.published_ticket[transfer.box] = transfer.ticket;
  fate().changed.notify_all();
  return Event{transfer.ticket};
}

void ThreadCommunicator::complete(Transfer& transfer) {
  for (int step = 0; step < size(); ++step) {
    const int peer = (rank_ + step) % size();
    Lock lock(fate().mutex);
    wait_for(lock, "all_to_all", transfer.call, {peer, peer + 1}, [&](int p) { return seat(p).published_ticket[transfer.box] >= transfer.ticket; });
    const Transfer& theirs = *seat(peer).published[transfer.box];
    lock.unlock();
    if (theirs.send.rows(rank_) != transfer.receive.rows(peer) || theirs.row_bytes != transfer.row_bytes) {
      throw InternalError(fmt::format("rank {} sends {} rows of {} bytes in {} to rank {}, which expects {} rows of {} bytes", seat(peer).world_rank,
                                      theirs.send.rows(rank_), theirs.row_bytes, describe("all_to_all", transfer.call), me_.world_rank,
                                      transfer.receive.rows(peer), transfer.row_bytes));
    }
    copy_runs(theirs.send.runs(rank_), theirs.outbox_bytes(), transfer.receive.runs(peer), transfer.inbox_bytes(), transfer.row_bytes);
  }
  const Lock lock(fate().mutex);
  transfer.pending = false;
  me_.pulled_ticket[transfer.box] = transfer.ticket;
  fate().changed.notify_all();
}

}  // namespace

ThreadWorld::ThreadWorld(int size, OutboxSizes sizes, std::chrono::milliseconds deadline) {
  check(size > 0, "ThreadWorld: a world has at least one rank");
  auto fate = std::make_shared<Fate>();
  fate->deadline = deadline;
  std::vector<int> world_ranks;
  for (int rank = 0; rank < size; ++rank) world_ranks.push_back(rank);
  group_ = make_group(std::move(fate), sizes, world_ranks);
}

std::unique_ptr<Communicator> ThreadWorld::communicator(int rank) {
  const Lock lock(group_->fate->mutex);
  check(rank >= 0 && rank < static_cast<int>(group_->seats.size()), "ThreadWorld: no such rank");
  Seat& seat = group_->seats[static_cast<size_t>(rank)];
  check(!seat.taken, "ThreadWorld: this rank's communicator was taken already");
  seat.taken = true;
  return std::make_unique<ThreadCommunicator>(group_, rank);
}

void ThreadWorld::fail(int rank, const std::string& sentence) {
  const Lock lock(group_->fate->mutex);
  group_->fate->fail(fmt::format("rank {} failed: {}", rank, sentence));
}

}  // namespace switchyard
