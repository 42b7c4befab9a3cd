// A communicator that notes what passes through it: which collective of which layer, when this rank came to it, how long
// it stayed, and how many bytes left for every peer.
//
// It changes nothing and sends nothing. Times are those of a Trace, so that they lie within its spans. All ranks issue
// the same collectives in the same order: call number i is the same operation everywhere.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.h"
#include "src/base/trace.h"

namespace switchyard {

enum class CallKind : uint8_t { kTransfer, kBucketTransfer, kAllGather, kBroadcast, kReduce, kBarrier };
inline constexpr int kCallKinds = 6;
// A stay in the communicator. Nothing where `end` is `begin`.
struct Stay {
  int64_t begin_ns = 0, end_ns = 0;
};

struct RecordedCall {
  CallKind kind = CallKind::kBarrier;
  const char* name = "";  // a literal
  int layer = -1;
  Stay outbox;  // of a transfer: waiting for its outbox
  Stay issue;   // the call itself
  Stay wait;    // of a transfer: the first wait for its event
};

class Recorder final : public Communicator {
 public:
  // Both outlive it.
  Recorder(Communicator& inner, const Trace& trace) : inner_(inner), trace_(trace) {}

  // Forgets what there is and notes the following calls, with room for `calls` at once; more take more memory.
  void start(int64_t calls);
  void stop() { recording_ = false; }

  const std::vector<RecordedCall>& calls() const { return calls_; }
  // Of call i: bytes of rows that leave this rank for `peer`.
  int64_t bytes_to(size_t call, int peer) const { return bytes_[call * static_cast<size_t>(size()) + static_cast<size_t>(peer)]; }

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  // What travels between hosts beside a device's rows is not noted.
  Communicator& host() override { return &inner_.host() == &inner_ ? *this : inner_.host(); }
  // What happens in the new group is not noted.
  std::unique_ptr<Communicator> split(int color, int key) override { return inner_.split(color, key); }
  void barrier(Call call) override;
  void broadcast(Call call, Tensor tensor, int root) override;
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override;
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override;
  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override;
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override;
  void wait(Event event) override;
  [[noreturn]] void abort(ExitCode code) override;
  int64_t bytes_sent() const override { return inner_.bytes_sent(); }

 private:
  // Begins a call; the bytes to every peer are 0. Answers with its number.
  size_t begin(CallKind kind, Call call);
  int64_t& bytes_of(size_t call, int peer) { return bytes_[call * static_cast<size_t>(size()) + static_cast<size_t>(peer)]; }
  // Ends the issue of call `number` that began at `begin_ns`.
  void end(size_t number, int64_t begin_ns);

  struct Open {
    uint64_t ticket = 0;
    size_t call = 0;
  };

  Communicator& inner_;
  const Trace& trace_;
  bool recording_ = false;
  std::vector<RecordedCall> calls_;
  std::vector<int64_t> bytes_;  // [calls, P]
  std::vector<Open> open_;      // transfers that nobody has waited for, oldest first
  struct Asked {
    Stay stay;
    const void* data = nullptr;
  };
  // The use whose outbox this is: the one that was handed out last where both are.
  size_t use_of(const Tensor& outbox) const;
  Asked asked_[2];  // the last outbox of each use
};

}  // namespace switchyard
