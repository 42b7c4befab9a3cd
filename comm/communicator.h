// Communicator: bytes between the ranks of a group. It knows no layers and does no floating-point arithmetic.
//
// Every rank issues the same operations in the same order; a class does all of them or is not a Communicator. One
// thread per rank calls it. Tensors are contiguous, of any dtype, F64 included, and on the host, with one exception: a
// communicator of devices hands out outboxes on its device, and its all_to_all moves rows from there to an inbox there;
// all_gather takes tensors of either kind. What is to travel from an outbox on the host goes by its host().
//
// Transfers of rows are asynchronous: all_to_all returns an Event, wait(event) returns when the inbox is filled on this
// rank. An implementation may complete at once. Rows to be sent are packed straight into an outbox that the communicator
// owns, so that it can place it where peers read it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/tensor.h"
#include "src/base/error.h"

namespace switchyard {

// `rows` rows of a matrix starting at `first_row`, going to or coming from `peer`. The segments between one pair of
// ranks are matched in list order; both sides name the same number of rows in total for the pair, not necessarily the
// same cuts.
struct Segment {
  int peer = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
};

// Which operation this is: for the trace, the checker and messages.
struct Call {
  const char* name = "";  // a literal, such as "dispatch"
  int layer = -1;
};

// A point in the order of transfers. A default Event has happened.
struct Event {
  uint64_t ticket = 0;
};

enum class Reduction : uint8_t { kSum, kMin, kMax, kOr };

// A communicator owns two pairs of outboxes; each pair is used in turn.
enum class OutboxUse : uint8_t { kExchange, kBucket };

// Bytes of one outbox of each pair, agreed by all ranks.
struct OutboxSizes {
  int64_t exchange_bytes = 0;
  int64_t bucket_bytes = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // The communicator of the same ranks all of whose tensors are on the host: itself, unless it moves a device's rows.
  virtual Communicator& host() { return *this; }
  // Ranks with the same color form a new group, ordered by (key, rank). Collective.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  virtual void barrier(Call call) = 0;
  virtual void broadcast(Call call, Tensor tensor, int root) = 0;
  // all [sum of rows, ...] = each rank's `mine` [rows[r], ...] in rank order. `rows` is the same on every rank.
  virtual void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) = 0;
  // values[i] = reduction over ranks of values[i].
  virtual void reduce(Call call, std::span<int64_t> values, Reduction reduction) = 0;

  // A matrix to be packed and handed to the next all_to_all. Completes on this rank the transfer that used this outbox
  // last, then waits until its peers have done so too. Throws InternalError beyond OutboxSizes (a communicator made
  // with sizes 0 grows instead, where it can).
  virtual Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) = 0;
  // Row segments of `outbox` to the peers' inboxes. `outbox` is what outbox() returned last for its use; `inbox` is the
  // caller's and outlives the event. Starts after `after`, and on a device after what was put into its compute stream.
  virtual Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) = 0;
  // On a device: what is put into its compute stream from now on sees the inbox.
  virtual void wait(Event event) = 0;

  // Ends the whole job with this exit code. Does not return.
  [[noreturn]] virtual void abort(ExitCode code) = 0;

  // Bytes that this rank has sent to other ranks by all_to_all, all_gather and broadcast.
  virtual int64_t bytes_sent() const = 0;
};

}  // namespace switchyard
