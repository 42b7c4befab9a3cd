#include "comm/mpi.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "comm/transfers.h"

namespace switchyard {
namespace {

constexpr int kTags = 1 << 14;  // every MPI has tags up to 32767

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
    if (row_bytes <= kLargestMessage) {
      check_mpi(MPI_Type_contiguous(static_cast<int>(row_bytes), MPI_BYTE, &type), "MPI_Type_contiguous", rank, call);
    } else {  // pieces that int counts
      std::vector<int> lengths;
      std::vector<MPI_Aint> places;
      for (int64_t place = 0; place < row_bytes; place += kLargestMessage) {
        lengths.push_back(static_cast<int>(std::min(kLargestMessage, row_bytes - place)));
        places.push_back(place);
      }
      check_mpi(MPI_Type_create_hindexed(static_cast<int>(lengths.size()), lengths.data(), places.data(), MPI_BYTE, &type), "MPI_Type_create_hindexed", rank,
                call);
    }
    check_mpi(MPI_Type_commit(&type), "MPI_Type_commit", rank, call);
    types_.emplace_back(row_bytes, type);
    return type;
  }

 private:
  std::vector<std::pair<int64_t, MPI_Datatype>> types_;
};

// Messages of one direction, in order of steps: step k goes to rank + k and comes from rank - k.
struct Messages {
  std::vector<MPI_Request> requests;
  std::vector<int64_t> bytes;
  std::vector<size_t> end;  // of each step that is posted, in `requests`

  void clear() {
    requests.clear();
    bytes.clear();
    end.clear();
  }
};

// The messages of one transfer.
struct Post {
  const Transfer* transfer = nullptr;
  Messages out, in;
};

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MPI_Comm owned, OutboxSizes sizes, const MpiOptions& options)
      : comm_(owned), sizes_(sizes), options_(options), transfers_(comm_.rank(), comm_.size(), sizes) {}
  ~MpiCommunicator() override;

  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    post_all();
    MPI_Comm part = MPI_COMM_NULL;
    ensure(MPI_Comm_split(comm_.get(), color, key, &part), "MPI_Comm_split", {"split", -1});
    return std::make_unique<MpiCommunicator>(part, sizes_, options_);
  }

  void barrier(Call call) override {
    post_all();
    ensure(MPI_Barrier(comm_.get()), "MPI_Barrier", call);
  }
  void broadcast(Call call, Tensor tensor, int root) override;
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override;
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override;

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override {
    post_all();
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
  int64_t rows_of_message(int64_t row_bytes) const { return std::clamp<int64_t>(options_.largest_message / row_bytes, 1, options_.largest_count); }
  int last_step() const { return size() - 1; }

  // Posts the sends of a transfer up to this step.
  void post_sends(Post& post, int step);
  // Posts what is left of every transfer. Whatever may wait for a peer does so first: the peer may wait for these.
  void post_all() {
    for (Post& post : posts_) post_sends(post, last_step());
  }
  // Posts the rows of one pair, in messages of at most rows_of_message rows: both sides cut the same stream alike,
  // whatever their runs are.
  void post_rows(const Transfer& transfer, int peer, bool sending, Messages& messages);
  // Posts the rows collected in lengths_ and places_ as one message.
  void post_message(const Transfer& transfer, int peer, bool sending, Messages& messages);
  void complete(Transfer& transfer);
  void wait_for_receives(Post& post, int step);
  // As all_gather, where one call cannot count the rows.
  void gather_by_broadcasts(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows);

  MpiComm comm_;
  OutboxSizes sizes_;
  MpiOptions options_;
  Transfers transfers_;
  RowTypes row_types_;
  std::array<Post, kBoxes> posts_;
  int64_t bytes_sent_ = 0;
  std::vector<int> counts_, displacements_;  // of all_gather, rows
  std::vector<int> lengths_;                 // rows of each run of the message that is being made
  std::vector<MPI_Aint> places_;             // its bytes before each run
};

MpiCommunicator::~MpiCommunicator() {
  if (std::uncaught_exceptions() > 0) return;  // the peers may never come
  try {
    post_all();
  } catch (const Error&) {
    return;  // MPI fails: nothing that is under way can end
  }
  for (Post& post : posts_) {
    for (Messages* messages : {&post.in, &post.out}) {
      for (MPI_Request& request : messages->requests) MPI_Wait(&request, MPI_STATUS_IGNORE);  // null once complete
    }
  }
}

void MpiCommunicator::broadcast(Call call, Tensor tensor, int root) {
  check_operand(tensor);
  check(root >= 0 && root < size(), "broadcast: the root is not a rank of the group");
  post_all();
  char* data = static_cast<char*>(tensor.data());
  const int64_t step = std::min(options_.largest_message, options_.largest_count);
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
  post_all();
  bytes_sent_ += mine.bytes() * (size() - 1);
  if (all.rows() > options_.largest_count) return gather_by_broadcasts(call, mine, all, rows);
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
      counts_[r] = static_cast<int>(std::min(step, rows[r] - skipped));
      displacements_[r] = static_cast<int>(first + skipped);
      first += rows[r];
    }
    const int count = counts_[static_cast<size_t>(rank())];
    const char* source = static_cast<const char*>(mine.data()) + std::min(done, mine.rows()) * row_bytes;
    ensure(MPI_Allgatherv(in_place ? MPI_IN_PLACE : source, count, row, target, counts_.data(), displacements_.data(), row, comm_.get()), "MPI_Allgatherv",
           call);
  }
}

void MpiCommunicator::gather_by_broadcasts(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) {
  const int64_t row_bytes = mine.columns() * size_of(mine.dtype());
  const MPI_Datatype row = row_types_.get(row_bytes, rank(), call);
  const int64_t step = rows_of_message(row_bytes);
  char* part = static_cast<char*>(all.data());
  for (int root = 0; root < size(); ++root) {
    const int64_t count = rows[static_cast<size_t>(root)];
    if (root == rank() && mine.data() != part && count > 0) std::memcpy(part, mine.data(), static_cast<size_t>(mine.bytes()));
    for (int64_t done = 0; done < count; done += step) {
      ensure(MPI_Bcast(part + done * row_bytes, static_cast<int>(std::min(step, count - done)), row, root, comm_.get()), "MPI_Bcast", call);
    }
    part += count * row_bytes;
  }
}

void MpiCommunicator::reduce(Call call, std::span<int64_t> values, Reduction reduction) {
  MPI_Op op = MPI_SUM;
  switch (reduction) {
    case Reduction::kSum: op = MPI_SUM; break;
    case Reduction::kMin: op = MPI_MIN; break;
    case Reduction::kMax: op = MPI_MAX; break;
    case Reduction::kOr: op = MPI_BOR; break;
  }
  post_all();
  const int64_t count = static_cast<int64_t>(values.size());
  for (int64_t done = 0; done < count; done += options_.largest_count) {
    const int piece = static_cast<int>(std::min(options_.largest_count, count - done));
    ensure(MPI_Allreduce(MPI_IN_PLACE, values.data() + done, piece, MPI_INT64_T, op, comm_.get()), "MPI_Allreduce", call);
  }
}

Event MpiCommunicator::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) {
  post_all();
  wait(after);
  Transfer& transfer = transfers_.begin(call, outbox, send, inbox, receive);
  bytes_sent_ += transfer.bytes_to_others(rank(), size());
  Post& post = posts_[static_cast<size_t>(transfer.box)];
  post.transfer = &transfer;
  post.in.clear();
  post.out.clear();
  for (int step = 1; step <= last_step(); ++step) {
    post_rows(transfer, (rank() - step + size()) % size(), false, post.in);
    post.in.end.push_back(post.in.requests.size());
  }
  post_sends(post, options_.algorithm == MpiAlgorithm::kLinear ? last_step() : std::min(1, last_step()));
  copy_runs(transfer.send.runs(rank()), transfer.outbox_bytes(), transfer.receive.runs(rank()), transfer.inbox_bytes(), transfer.row_bytes);
  return Event{transfer.ticket};
}

void MpiCommunicator::post_sends(Post& post, int step) {
  if (post.transfer == nullptr) return;
  while (static_cast<int>(post.out.end.size()) < step) {
    const int next = static_cast<int>(post.out.end.size()) + 1;
    post_rows(*post.transfer, (rank() + next) % size(), true, post.out);
    post.out.end.push_back(post.out.requests.size());
  }
}

void MpiCommunicator::post_rows(const Transfer& transfer, int peer, bool sending, Messages& messages) {
  if (transfer.row_bytes == 0) return;
  const int64_t most = rows_of_message(transfer.row_bytes);
  int64_t collected = 0;
  for (const Run& run : (sending ? transfer.send : transfer.receive).runs(peer)) {
    for (int64_t done = 0; done < run.rows;) {
      const int64_t rows = std::min(run.rows - done, most - collected);
      lengths_.push_back(static_cast<int>(rows));
      places_.push_back((run.first_row + done) * transfer.row_bytes);
      done += rows;
      collected += rows;
      if (collected == most) {
        post_message(transfer, peer, sending, messages);
        collected = 0;
      }
    }
  }
  if (collected > 0) post_message(transfer, peer, sending, messages);
}

void MpiCommunicator::post_message(const Transfer& transfer, int peer, bool sending, Messages& messages) {
  const Call call = transfer.call;
  const MPI_Datatype row = row_types_.get(transfer.row_bytes, rank(), call);
  MPI_Datatype type = row;
  int count = lengths_[0];
  int64_t offset = places_[0];
  if (lengths_.size() > 1) {
    ensure(MPI_Type_create_hindexed(static_cast<int>(lengths_.size()), lengths_.data(), places_.data(), row, &type), "MPI_Type_create_hindexed", call);
    ensure(MPI_Type_commit(&type), "MPI_Type_commit", call);
    count = 1;
    offset = 0;
  }
  const int tag = static_cast<int>(transfer.ticket % kTags);
  messages.bytes.push_back(std::accumulate(lengths_.begin(), lengths_.end(), int64_t{0}) * transfer.row_bytes);
  messages.requests.push_back(MPI_REQUEST_NULL);
  if (sending) {
    ensure(MPI_Isend(transfer.outbox_bytes() + offset, count, type, peer, tag, comm_.get(), &messages.requests.back()), "MPI_Isend", call);
  } else {
    ensure(MPI_Irecv(transfer.inbox_bytes() + offset, count, type, peer, tag, comm_.get(), &messages.requests.back()), "MPI_Irecv", call);
  }
  if (type != row) ensure(MPI_Type_free(&type), "MPI_Type_free", call);  // MPI keeps it until the message is through
  lengths_.clear();
  places_.clear();
}

void MpiCommunicator::complete(Transfer& transfer) {
  Post& post = posts_[static_cast<size_t>(transfer.box)];
  for (Post& other : posts_) {
    if (&other != &post) post_sends(other, last_step());
  }
  transfer.pending = false;
  size_t sent = 0;
  for (int step = 1; step <= last_step(); ++step) {
    post_sends(post, step);
    wait_for_receives(post, step);
    for (; sent < post.out.end[static_cast<size_t>(step) - 1]; ++sent) ensure(MPI_Wait(&post.out.requests[sent], MPI_STATUS_IGNORE), "MPI_Wait", transfer.call);
  }
  post.transfer = nullptr;
}

// One MPI_Wait per message: OpenMPI 4.1's MPI_Waitall never returns where a message is cut off while it waits.
void MpiCommunicator::wait_for_receives(Post& post, int step) {
  const Call call = post.transfer->call;
  for (size_t i = step == 1 ? 0 : post.in.end[static_cast<size_t>(step) - 2]; i < post.in.end[static_cast<size_t>(step) - 1]; ++i) {
    MPI_Status message{};
    const int status = MPI_Wait(&post.in.requests[i], &message);
    int kind = status;
    if (status != MPI_SUCCESS) MPI_Error_class(status, &kind);
    if (kind != MPI_ERR_TRUNCATE) ensure(status, "MPI_Wait", call);
    MPI_Count bytes = 0;
    ensure(MPI_Get_elements_x(&message, MPI_BYTE, &bytes), "MPI_Get_elements_x", call);
    if (kind == MPI_SUCCESS && bytes == post.in.bytes[i]) continue;
    post_sends(post, last_step());  // this rank stops, its peers need not
    throw InternalError(fmt::format("rank {} expects {} bytes from rank {} in all_to_all '{}' of layer {} but is sent {}: run with --check-collectives", rank(),
                                    post.in.bytes[i], (rank() - step + size()) % size(), call.name, call.layer,
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

std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm parent, OutboxSizes sizes, const MpiOptions& options) {
  check(options.largest_message > 0 && options.largest_message <= kLargestMessage, "make_mpi_communicator: a message is between 1 byte and 1 GiB");
  check(options.largest_count > 0 && options.largest_count <= MpiOptions().largest_count, "make_mpi_communicator: MPI counts with int");
  MPI_Comm copy = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(parent, &copy), "MPI_Comm_dup", 0, {"start", -1});
  return std::make_unique<MpiCommunicator>(copy, sizes, options);
}

}  // namespace switchyard
