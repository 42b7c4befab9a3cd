#include "comm/mpi.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "comm/transfers.h"

namespace switchyard {
namespace {

constexpr int kTags = 1 << 14;  // every MPI has tags up to 32767

int to_count(int64_t rows, int rank, Call call) {
  if (rows > std::numeric_limits<int>::max()) {
    throw Error(ExitCode::kUsage,
                fmt::format("rank {} was to move {} rows at once in '{}' of layer {}, but MPI counts to {}: use more ranks or a smaller batch", rank, rows,
                            call.name, call.layer, std::numeric_limits<int>::max()));
  }
  return static_cast<int>(rows);
}

// Committed datatypes of one row each, by bytes.
class RowTypes {
 public:
  RowTypes() = default;
  ~RowTypes() {
    for (auto& [bytes, type] : types_) MPI_Type_free(&type);
  }
  RowTypes(const RowTypes&) = delete;
  RowTypes& operator=(const RowTypes&) = delete;

  MPI_Datatype get(int64_t row_bytes, int rank, Call call) {
    for (const auto& [bytes, type] : types_) {
      if (bytes == row_bytes) return type;
    }
    MPI_Datatype type = MPI_DATATYPE_NULL;
    check_mpi(MPI_Type_contiguous(to_count(row_bytes, rank, call), MPI_BYTE, &type), "MPI_Type_contiguous", rank, call);
    check_mpi(MPI_Type_commit(&type), "MPI_Type_commit", rank, call);
    types_.emplace_back(row_bytes, type);
    return type;
  }

 private:
  std::vector<std::pair<int64_t, MPI_Datatype>> types_;
};

// The messages of one transfer: receives first, then sends.
struct Messages {
  std::vector<MPI_Request> requests;
  std::vector<int> peers;           // of each receive
  std::vector<int64_t> to_receive;  // bytes of each receive
};

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MPI_Comm owned, OutboxSizes sizes, int64_t largest_message)
      : comm_(owned), sizes_(sizes), largest_message_(largest_message), transfers_(comm_.rank(), comm_.size(), sizes) {}
  ~MpiCommunicator() override {
    if (std::uncaught_exceptions() > 0) return;  // the peers may never come
    for (Messages& messages : messages_) {
      for (MPI_Request& request : messages.requests) MPI_Wait(&request, MPI_STATUS_IGNORE);  // null once complete
    }
  }

  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    MPI_Comm part = MPI_COMM_NULL;
    ensure(MPI_Comm_split(comm_.get(), color, key, &part), "MPI_Comm_split", {"split", -1});
    return std::make_unique<MpiCommunicator>(part, sizes_, largest_message_);
  }

  void barrier(Call call) override { ensure(MPI_Barrier(comm_.get()), "MPI_Barrier", call); }
  void broadcast(Call call, Tensor tensor, int root) override;
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override;
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override;

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override {
    Transfer& last = transfers_.last(use);
    if (last.pending) complete(last);  // its sends are done: no peer needs the outbox any more
    return transfers_.hand_out(use, dtype, rows, columns);
  }
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override;
  void wait(Event event) override {
    if (Transfer* transfer = transfers_.find(event)) complete(*transfer);
  }

  [[noreturn]] void abort(ExitCode code) override {
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));  // the whole job, not this group
    std::abort();                                       // not reached
  }
  int64_t bytes_sent() const override { return bytes_sent_; }

 private:
  void ensure(int status, const char* function, Call call) { check_mpi(status, function, rank(), call); }
  int64_t rows_of_message(int64_t row_bytes) const { return std::max<int64_t>(largest_message_ / row_bytes, 1); }

  // Posts the rows of one pair, in messages of at most rows_of_message rows: both sides cut the same stream alike,
  // whatever their runs are.
  void post(const Transfer& transfer, int peer, bool sending);
  // Posts the rows collected in lengths_ and first_rows_ as one message.
  void post_message(const Transfer& transfer, int peer, bool sending);
  void complete(Transfer& transfer);

  MpiComm comm_;
  OutboxSizes sizes_;
  int64_t largest_message_;
  Transfers transfers_;
  RowTypes row_types_;
  std::array<Messages, kBoxes> messages_;
  int64_t bytes_sent_ = 0;
  std::vector<int> counts_, displacements_;               // of all_gather, rows
  std::vector<int64_t> lengths_, first_rows_;             // runs of the message that is being made
  std::vector<int> block_lengths_, block_displacements_;  // the same for MPI_Type_indexed
};

void MpiCommunicator::broadcast(Call call, Tensor tensor, int root) {
  check_operand(tensor);
  check(root >= 0 && root < size(), "broadcast: the root is not a rank of the group");
  char* data = static_cast<char*>(tensor.data());
  const int64_t step = std::min<int64_t>(largest_message_, kLargestMessage);
  for (int64_t done = 0; done < tensor.bytes(); done += step) {
    const int bytes = static_cast<int>(std::min(step, tensor.bytes() - done));
    ensure(MPI_Bcast(data + done, bytes, MPI_BYTE, root, comm_.get()), "MPI_Bcast", call);
  }
  if (rank() == root) bytes_sent_ += tensor.bytes() * (size() - 1);
}

void MpiCommunicator::all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) {
  const int64_t before = check_gather(mine, all, rows, rank(), size());
  const int64_t row_bytes = mine.columns() * size_of(mine.dtype());
  if (row_bytes == 0) return;
  char* const target = static_cast<char*>(all.data());
  const bool in_place = mine.data() == target + before * row_bytes;
  const MPI_Datatype row = row_types_.get(row_bytes, rank(), call);
  const int64_t step = rows_of_message(row_bytes);
  const int64_t longest = *std::max_element(rows.begin(), rows.end());
  counts_.resize(rows.size());
  displacements_.resize(rows.size());
  for (int64_t done = 0; done < longest; done += step) {
    int64_t first = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      const int64_t skipped = std::min(done, rows[r]);
      counts_[r] = to_count(std::min(step, rows[r] - skipped), rank(), call);
      displacements_[r] = to_count(first + skipped, rank(), call);
      first += rows[r];
    }
    const int count = counts_[static_cast<size_t>(rank())];
    const char* source = static_cast<const char*>(mine.data()) + std::min(done, mine.rows()) * row_bytes;
    ensure(MPI_Allgatherv(in_place ? MPI_IN_PLACE : source, count, row, target, counts_.data(), displacements_.data(), row, comm_.get()), "MPI_Allgatherv",
           call);
  }
  bytes_sent_ += mine.bytes() * (size() - 1);
}

void MpiCommunicator::reduce(Call call, std::span<int64_t> values, Reduction reduction) {
  MPI_Op op = MPI_SUM;
  switch (reduction) {
    case Reduction::kSum: op = MPI_SUM; break;
    case Reduction::kMin: op = MPI_MIN; break;
    case Reduction::kMax: op = MPI_MAX; break;
    case Reduction::kOr: op = MPI_BOR; break;
  }
  const int count = to_count(static_cast<int64_t>(values.size()), rank(), call);
  ensure(MPI_Allreduce(MPI_IN_PLACE, values.data(), count, MPI_INT64_T, op, comm_.get()), "MPI_Allreduce", call);
}

Event MpiCommunicator::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) {
  wait(after);
  Transfer& transfer = transfers_.begin(call, outbox, send, inbox, receive);
  bytes_sent_ += transfer.bytes_to_others(rank(), size());
  Messages& messages = messages_[static_cast<size_t>(transfer.box)];
  messages.requests.clear();
  messages.peers.clear();
  messages.to_receive.clear();
  for (const bool sending : {false, true}) {
    for (int step = 1; step < size(); ++step) post(transfer, (rank() + step) % size(), sending);
  }
  copy_runs(transfer.send.runs(rank()), transfer.outbox_bytes(), transfer.receive.runs(rank()), transfer.inbox_bytes(), transfer.row_bytes);
  return Event{transfer.ticket};
}

void MpiCommunicator::post(const Transfer& transfer, int peer, bool sending) {
  if (transfer.row_bytes == 0) return;
  const int64_t most = rows_of_message(transfer.row_bytes);
  int64_t collected = 0;
  for (const Run& run : (sending ? transfer.send : transfer.receive).runs(peer)) {
    for (int64_t done = 0; done < run.rows;) {
      const int64_t rows = std::min(run.rows - done, most - collected);
      lengths_.push_back(rows);
      first_rows_.push_back(run.first_row + done);
      done += rows;
      collected += rows;
      if (collected == most) {
        post_message(transfer, peer, sending);
        collected = 0;
      }
    }
  }
  if (collected > 0) post_message(transfer, peer, sending);
}

void MpiCommunicator::post_message(const Transfer& transfer, int peer, bool sending) {
  const Call call = transfer.call;
  Messages& messages = messages_[static_cast<size_t>(transfer.box)];
  const MPI_Datatype row = row_types_.get(transfer.row_bytes, rank(), call);
  MPI_Datatype type = row;
  int count = 0;
  int64_t first = 0;
  if (lengths_.size() == 1) {
    count = to_count(lengths_[0], rank(), call);
    first = first_rows_[0];
  } else {
    block_lengths_.clear();
    block_displacements_.clear();
    for (int64_t length : lengths_) block_lengths_.push_back(to_count(length, rank(), call));
    for (int64_t displacement : first_rows_) block_displacements_.push_back(to_count(displacement, rank(), call));
    const int blocks = to_count(static_cast<int64_t>(lengths_.size()), rank(), call);
    ensure(MPI_Type_indexed(blocks, block_lengths_.data(), block_displacements_.data(), row, &type), "MPI_Type_indexed", call);
    ensure(MPI_Type_commit(&type), "MPI_Type_commit", call);
    count = 1;
  }
  const int tag = static_cast<int>(transfer.ticket % kTags);
  const int64_t offset = first * transfer.row_bytes;
  messages.requests.push_back(MPI_REQUEST_NULL);
  if (sending) {
    ensure(MPI_Isend(transfer.outbox_bytes() + offset, count, type, peer, tag, comm_.get(), &messages.requests.back()), "MPI_Isend", call);
  } else {
    int64_t rows = 0;
    for (int64_t length : lengths_) rows += length;
    messages.peers.push_back(peer);
    messages.to_receive.push_back(rows * transfer.row_bytes);
    ensure(MPI_Irecv(transfer.inbox_bytes() + offset, count, type, peer, tag, comm_.get(), &messages.requests.back()), "MPI_Irecv", call);
  }
  if (type != row) ensure(MPI_Type_free(&type), "MPI_Type_free", call);  // MPI keeps it until the message is through
  lengths_.clear();
  first_rows_.clear();
}

// One MPI_Wait per message: OpenMPI 4.1's MPI_Waitall never returns where a message is cut off while it waits.
void MpiCommunicator::complete(Transfer& transfer) {
  Messages& messages = messages_[static_cast<size_t>(transfer.box)];
  transfer.pending = false;
  for (size_t i = 0; i < messages.requests.size(); ++i) {
    MPI_Status message{};
    const int status = MPI_Wait(&messages.requests[i], &message);
    if (i >= messages.to_receive.size()) {
      ensure(status, "MPI_Wait", transfer.call);
      continue;
    }
    int kind = status;
    if (status != MPI_SUCCESS) MPI_Error_class(status, &kind);
    if (kind != MPI_ERR_TRUNCATE) ensure(status, "MPI_Wait", transfer.call);
    int bytes = 0;
    ensure(MPI_Get_count(&message, MPI_BYTE, &bytes), "MPI_Get_count", transfer.call);
    if (kind == MPI_SUCCESS && bytes == messages.to_receive[i]) continue;
    throw InternalError(fmt::format("rank {} expects {} bytes from rank {} in all_to_all '{}' of layer {} but is sent {}: run with --check-collectives", rank(),
                                    messages.to_receive[i], messages.peers[i], transfer.call.name, transfer.call.layer,
                                    kind == MPI_SUCCESS ? std::to_string(bytes) : "more"));
  }
}

}  // namespace

void check_mpi(int status, const char* function, int rank, Call call) {
  if (status == MPI_SUCCESS) [[likely]]
    return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw Error(ExitCode::kFailure, fmt::format("{} failed on rank {} in '{}' of layer {}: {}", function, rank, call.name, call.layer, text));
}

MpiComm::MpiComm(MPI_Comm owned) : comm_(owned) {
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
}

MpiComm::~MpiComm() {
  if (std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
}

std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm parent, OutboxSizes sizes, int64_t largest_message) {
  check(largest_message > 0 && largest_message <= kLargestMessage, "make_mpi_communicator: a message is between 1 byte and 1 GiB");
  MPI_Comm copy = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(parent, &copy), "MPI_Comm_dup", 0, {"start", -1});
  return std::make_unique<MpiCommunicator>(copy, sizes, largest_message);
}

}  // namespace switchyard
