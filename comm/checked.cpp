#include "comm/checked.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "comm/agree.h"
#include "comm/transfers.h"

namespace switchyard {
namespace {

enum class Operation : int64_t { kSplit, kBarrier, kBroadcast, kAllGather, kReduce, kOutbox, kAllToAll };
constexpr std::array<const char*, 7> kOperationNames = {"split", "barrier", "broadcast", "all_gather", "reduce", "outbox", "all_to_all"};
constexpr std::array<const char*, 4> kReductionNames = {"sum", "min", "max", "or"};
constexpr size_t kNameBytes = 48;

// What a rank is about to do. Travels as bytes, followed by two numbers per rank: rows to it and rows from it.
struct Intent {
  int64_t sequence = 0;
  Operation operation = Operation::kBarrier;
  int64_t layer = -1;
  int64_t dtype = 0;
  int64_t columns = 0;  // of a row
  int64_t rows = 0;     // where they are the same on every rank
  int64_t detail = 0;   // root, reduction or use of the outbox
  char name[kNameBytes] = {};

  bool operator==(const Intent&) const = default;
};
static_assert(sizeof(Intent) % 8 == 0);

std::string describe(const Intent& intent) {
  std::string text = fmt::format("{} '{}' of layer {}", kOperationNames[static_cast<size_t>(intent.operation)], intent.name, intent.layer);
  switch (intent.operation) {
    case Operation::kSplit:
    case Operation::kBarrier: break;
    case Operation::kReduce: text += fmt::format(" ({} numbers, {})", intent.rows, kReductionNames[static_cast<size_t>(intent.detail)]); break;
    case Operation::kBroadcast:
      text += fmt::format(" ({} rows of {} {} from root {})", intent.rows, intent.columns, name(static_cast<Dtype>(intent.dtype)), intent.detail);
      break;
    case Operation::kOutbox:
      text += fmt::format(" ({}, rows of {} {})", intent.detail == 0 ? "exchange" : "bucket", intent.columns, name(static_cast<Dtype>(intent.dtype)));
      break;
    case Operation::kAllGather:
    case Operation::kAllToAll: text += fmt::format(" (rows of {} {})", intent.columns, name(static_cast<Dtype>(intent.dtype))); break;
  }
  return text + fmt::format(" as operation {}", intent.sequence);
}

// 40 bits, so that sums over ranks stay within 64. FNV-1a by words, stirred as in splitmix64.
int64_t hash(std::span<const int64_t> words) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const int64_t word : words) {
    hash = (hash ^ static_cast<uint64_t>(word)) * 0x100000001b3;
    hash ^= hash >> 29;
  }
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  return static_cast<int64_t>(hash >> 24);
}

// 0 for none.
int64_t hash_of_rows(int sender, int receiver, int64_t rows) {
  const int64_t words[] = {sender, receiver, rows};
  return rows == 0 ? 0 : hash(words);
}

class CheckedCommunicator final : public Communicator {
 public:
  explicit CheckedCommunicator(std::unique_ptr<Communicator> inner) : inner_(std::move(inner)) {
    const size_t ranks = static_cast<size_t>(size());
    ones_.assign(ranks, 1);
    record_.resize(sizeof(Intent) / 8 + 2 * ranks);
    records_.resize(record_.size() * ranks);
  }

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  // A device's host() has been given its own check.
  Communicator& host() override { return &inner_->host() == inner_.get() ? *this : inner_->host(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    compare(intent(Operation::kSplit, {"split", -1}), {"split", -1});
    return make_checked_communicator(inner_->split(color, key));
  }

  void barrier(Call call) override {
    compare(intent(Operation::kBarrier, call), call);
    inner_->barrier(call);
  }
  void broadcast(Call call, Tensor tensor, int root) override {
    Intent mine = intent(Operation::kBroadcast, call, &tensor);
    mine.rows = tensor.rows();
    mine.detail = root;
    compare(mine, call);
    inner_->broadcast(call, tensor, root);
    if (rank() == root) bytes_sent_ += tensor.bytes() * (size() - 1);
  }
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override;
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override {
    Intent mine = intent(Operation::kReduce, call);
    mine.rows = static_cast<int64_t>(values.size());
    mine.detail = static_cast<int64_t>(reduction);
    compare(mine, call);
    inner_->reduce(call, values, reduction);
  }

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override {
    const Call call{"outbox", -1};
    Intent mine = intent(Operation::kOutbox, call);
    mine.dtype = static_cast<int64_t>(dtype);
    mine.columns = columns;
    mine.detail = static_cast<int64_t>(use);
    compare(mine, call);
    return inner_->outbox(use, dtype, rows, columns);
  }
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override;
  void wait(Event event) override { inner_->wait(event); }

  [[noreturn]] void abort(ExitCode code) override {
    inner_->abort(code);
    std::abort();  // not reached
  }
  int64_t bytes_sent() const override { return bytes_sent_; }

 private:
  // Starts a record; the numbers per rank are zero.
  Intent intent(Operation operation, Call call, const Tensor* tensor = nullptr);
  int64_t& to(int peer) { return record_[sizeof(Intent) / 8 + static_cast<size_t>(peer)]; }
  int64_t& from(int peer) { return record_[sizeof(Intent) / 8 + static_cast<size_t>(size() + peer)]; }
  // What `rank` said in the last comparison.
  const int64_t* record_of(int rank) const { return records_.data() + record_.size() * static_cast<size_t>(rank); }
  Intent intent_of(int rank) const;
  int64_t told_to(int rank, int peer) const { return record_of(rank)[sizeof(Intent) / 8 + static_cast<size_t>(peer)]; }
  int64_t told_from(int rank, int peer) const { return told_to(rank, size() + peer); }

  // Returns where the ranks agree; what they agree in is in `words` (the start of the record) and in the balance of rows,
  // whose sum over all ranks is zero. Otherwise gathers the records, and throws where the intents differ.
  bool compare(const Intent& mine, Call call, size_t words = sizeof(Intent) / 8, int64_t balance = 0);
  [[noreturn]] void complain(int odd, const std::string& sentence) const { throw AgreedError(ExitCode::kHang, sentence, odd); }
  void count(std::span<const Segment> segments, bool sending);

  std::unique_ptr<Communicator> inner_;
  int64_t sequence_ = 0;
  int64_t bytes_sent_ = 0;
  std::vector<int64_t> ones_;
  std::vector<int64_t> record_;   // intent, rows to each rank, rows from each rank
  std::vector<int64_t> records_;  // of all ranks
};

Intent CheckedCommunicator::intent(Operation operation, Call call, const Tensor* tensor) {
  std::fill(record_.begin(), record_.end(), 0);
  Intent result;
  result.sequence = ++sequence_;
  result.operation = operation;
  result.layer = call.layer;
  const std::string_view text = call.name;
  std::copy_n(text.begin(), std::min(text.size(), kNameBytes - 1), result.name);
  if (tensor) {
    result.dtype = static_cast<int64_t>(tensor->dtype());
    result.columns = tensor->columns();
  }
  return result;
}

Intent CheckedCommunicator::intent_of(int rank) const {
  Intent result;
  std::memcpy(static_cast<void*>(&result), record_of(rank), sizeof result);
  return result;
}

bool CheckedCommunicator::compare(const Intent& mine, Call call, size_t words, int64_t balance) {
  std::memcpy(record_.data(), &mine, sizeof mine);
  const int64_t digest = hash({record_.data(), words});
  // Zero where every rank has the digest of rank 0, and else only by a chance of 2^-40.
  int64_t sums[2] = {rank() == 0 ? -digest * (size() - 1) : digest, balance};
  inner_->reduce(call, sums, Reduction::kSum);
  if (sums[0] == 0 && sums[1] == 0) return true;
  const int64_t halves = static_cast<int64_t>(record_.size()) * 2;
  inner_->all_gather(call, Tensor(record_.data(), Dtype::kI32, {1, halves}), Tensor(records_.data(), Dtype::kI32, {size(), halves}), ones_);
  const Intent first = intent_of(0);
  for (int other = 1; other < size(); ++other) {
    const Intent theirs = intent_of(other);
    if (theirs == first) continue;
    complain(other, fmt::format("rank {} issues {} where rank 0 issues {}: every rank must issue the same operations in one order", other, describe(theirs),
                                describe(first)));
  }
  return false;
}

void CheckedCommunicator::count(std::span<const Segment> segments, bool sending) {
  for (const Segment& segment : segments) {
    check(segment.peer >= 0 && segment.peer < size(), "all_to_all: a segment names a rank that is not in the group");
    (sending ? to(segment.peer) : from(segment.peer)) += segment.rows;
  }
}

void CheckedCommunicator::all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) {
  const Intent intention = intent(Operation::kAllGather, call, &mine);
  check(static_cast<int>(rows.size()) == size(), "all_gather: the row counts are not one per rank");
  for (int peer = 0; peer < size(); ++peer) to(peer) = rows[static_cast<size_t>(peer)];
  from(rank()) = mine.rows();
  // Every rank expects the same rows, and brings what it expects of itself.
  const int64_t wrong = mine.rows() == rows[static_cast<size_t>(rank())] ? 0 : 1;
  const bool agreed = compare(intention, call, sizeof(Intent) / 8 + static_cast<size_t>(size()), wrong);
  for (int other = 0; other < size() && !agreed; ++other) {
    for (int peer = 0; peer < size(); ++peer) {
      if (told_to(other, peer) == told_from(peer, peer)) continue;
      complain(other, fmt::format("rank {} expects {} rows from rank {} in {}, which brings {}", other, told_to(other, peer), peer, describe(intent_of(other)),
                                  told_from(peer, peer)));
    }
  }
  inner_->all_gather(call, mine, all, rows);
  bytes_sent_ += mine.bytes() * (size() - 1);
}

Event CheckedCommunicator::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive,
                                      Event after) {
  const Intent intention = intent(Operation::kAllToAll, call, &outbox);
  count(send, true);
  count(receive, false);
  const int64_t row_bytes = outbox.columns() * size_of(outbox.dtype());
  for (int peer = 0; peer < size(); ++peer) bytes_sent_ += peer == rank() ? 0 : to(peer) * row_bytes;
  int64_t balance = 0;  // over all ranks, what is sent less what is expected
  for (int peer = 0; peer < size(); ++peer) balance += hash_of_rows(rank(), peer, to(peer)) - hash_of_rows(peer, rank(), from(peer));
  const bool agreed = compare(intention, call, sizeof(Intent) / 8, balance);
  for (int sender = 0; sender < size() && !agreed; ++sender) {
    for (int receiver = 0; receiver < size(); ++receiver) {
      if (told_to(sender, receiver) == told_from(receiver, sender)) continue;
      complain(sender, fmt::format("rank {} sends {} rows to rank {} in {}, but rank {} expects {}: both must derive the counts from one matrix", sender,
                                   told_to(sender, receiver), receiver, describe(intent_of(sender)), receiver, told_from(receiver, sender)));
    }
  }
  return inner_->all_to_all(call, outbox, send, inbox, receive, after);
}

}  // namespace

std::unique_ptr<Communicator> make_checked_communicator(std::unique_ptr<Communicator> inner) { return std::make_unique<CheckedCommunicator>(std::move(inner)); }

}  // namespace switchyard
