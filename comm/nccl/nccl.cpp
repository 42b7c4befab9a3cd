#include "comm/nccl/nccl.h"

#include <optional>
#include <utility>
#include <vector>

#include "comm/nccl/device_communicator.h"
#include "comm/nccl/drained_host.h"
#include "comm/nccl/move_rows.h"
#include "comm/nccl/nccl_comm.h"
#include "src/base/checked.h"

namespace switchyard::cuda {
namespace {

constexpr int64_t kAlignment = 16;  // of the rows of each pair in staging memory

// The rows of one pair, as they leave or arrive.
struct Message {
  int peer = 0;
  int64_t bytes = 0;
  char* data = nullptr;
};

class NcclCommunicator final : public DeviceCommunicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> from_host, Gpu& gpu, const AcceleratorTransport& transport)
      : DeviceCommunicator(std::move(from_host), gpu, transport), staging_(gpu.memory()) {
    if (size() > 1) comm_.emplace(host(), gpu, transport.deadline);
  }

  std::unique_ptr<Communicator> split(int color, int key) override { return make_nccl_communicator(host().split(color, key), gpu(), transport()); }
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override;
  int64_t bytes_sent() const override { return bytes_sent_by_host() + bytes_sent_; }

 protected:
  void gather(Call call, const Tensor& mine, const Tensor& all, std::span<const int64_t> rows, int64_t before) override;

 private:
  int peer(int step) const { return (rank() + step) % size(); }
  // Bytes that a pair takes in staging memory.
  int64_t staged_bytes(const SegmentTable& table, int peer, int64_t row_bytes) const {
    return table.runs(peer).size() > 1 ? round_up(table.rows(peer) * row_bytes, kAlignment) : 0;
  }
  // Fills messages_, packs_ and spreads_.
  void plan(const Transfer& transfer);
  void plan_message(const Transfer& transfer, bool sending, int peer, int64_t& next);
  void exchange(Call call);
  void copy_own(const Transfer& transfer);

  int64_t bytes_sent_ = 0;
  Workspace staging_;       // of the transfer at hand, as is all below: transfers follow one another in one stream
  char* staged_ = nullptr;  // that memory
  std::vector<Message> out_, in_;
  std::vector<Move> packs_;       // from the outbox to staging memory
  std::vector<Move> spreads_;     // from staging memory to the inbox
  std::vector<Move> own_;         // from the outbox to the inbox
  std::optional<NcclComm> comm_;  // none in a world of one; ends first, as memory is not given back while it is written to
};

// `after` has gone into the same stream before.
Event NcclCommunicator::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event) {
  Transfer& transfer = transfers().begin(call, outbox, send, inbox, receive);
  bytes_sent_ += transfer.bytes_to_others(rank(), size());
  hold_back_transfers();
  if (transfer.row_bytes > 0) {
    plan(transfer);
    move_rows(gpu().transfers(), staged_, outbox.data(), packs_);
    exchange(call);
    move_rows(gpu().transfers(), inbox.data(), staged_, spreads_);
    copy_own(transfer);
  }
  mark_end(transfer);
  return Event{transfer.ticket};
}

void NcclCommunicator::plan(const Transfer& transfer) {
  int64_t needed = kAlignment;  // never nothing
  for (int step = 1; step < size(); ++step) {
    needed += staged_bytes(transfer.send, peer(step), transfer.row_bytes) + staged_bytes(transfer.receive, peer(step), transfer.row_bytes);
  }
  staged_ = static_cast<char*>(staging_.at_least(needed));
  out_.clear();
  in_.clear();
  packs_.clear();
  spreads_.clear();
  int64_t next = 0;
  for (int step = 1; step < size(); ++step) {
    plan_message(transfer, true, peer(step), next);
    plan_message(transfer, false, peer(size() - step), next);
  }
}

void NcclCommunicator::plan_message(const Transfer& transfer, bool sending, int peer, int64_t& next) {
  const SegmentTable& table = sending ? transfer.send : transfer.receive;
  const std::span<const Run> runs = table.runs(peer);
  if (runs.empty()) return;
  const int64_t row_bytes = transfer.row_bytes;
  Message message{peer, table.rows(peer) * row_bytes, nullptr};
  if (runs.size() == 1) {
    const Tensor& tensor = sending ? transfer.outbox : transfer.inbox;
    message.data = static_cast<char*>(tensor.data()) + runs[0].first_row * row_bytes;
  } else {
    message.data = staged_ + next;
    int64_t place = next;
    for (const Run& run : runs) {
      const int64_t bytes = run.rows * row_bytes;
      if (sending) packs_.push_back({.to = place, .from = run.first_row * row_bytes, .bytes = bytes});
      if (!sending) spreads_.push_back({.to = run.first_row * row_bytes, .from = place, .bytes = bytes});
      place += bytes;
    }
    next += staged_bytes(table, peer, row_bytes);
  }
  (sending ? out_ : in_).push_back(message);
}

void NcclCommunicator::exchange(Call call) {
  if (out_.empty() && in_.empty()) return;
  comm_->group(call, [&](ncclComm_t comm, cudaStream_t stream) {
    for (const Message& message : out_) {
      require(ncclSend(message.data, static_cast<size_t>(message.bytes), ncclUint8, message.peer, comm, stream), "ncclSend", call);
    }
    for (const Message& message : in_) {
      require(ncclRecv(message.data, static_cast<size_t>(message.bytes), ncclUint8, message.peer, comm, stream), "ncclRecv", call);
    }
  });
}

void NcclCommunicator::copy_own(const Transfer& transfer) {
  own_.clear();
  match_runs(transfer.send.runs(rank()), transfer.receive.runs(rank()), [&](int64_t from, int64_t to, int64_t rows) {
    own_.push_back({.to = to * transfer.row_bytes, .from = from * transfer.row_bytes, .bytes = rows * transfer.row_bytes});
  });
  move_rows(gpu().transfers(), transfer.inbox.data(), transfer.outbox.data(), own_);
}

// One broadcast from each rank, as they bring different numbers of rows.
void NcclCommunicator::gather(Call call, const Tensor& mine, const Tensor& all, std::span<const int64_t> rows, int64_t) {
  bytes_sent_ += mine.bytes() * (size() - 1);
  hold_back_transfers();
  if (comm_) {
    const int64_t row_bytes = all.columns() * size_of(all.dtype());
    comm_->group(call, [&](ncclComm_t comm, cudaStream_t stream) {
      char* part = static_cast<char*>(all.data());
      for (int root = 0; root < size(); ++root) {
        const int64_t bytes = rows[static_cast<size_t>(root)] * row_bytes;
        const void* source = root == rank() ? mine.data() : part;
        if (bytes > 0) require(ncclBroadcast(source, part, static_cast<size_t>(bytes), ncclUint8, root, comm, stream), "ncclBroadcast", call);
        part += bytes;
      }
    });
  } else if (mine.data() != all.data()) {
    cuda::require(cudaMemcpyAsync(all.data(), mine.data(), static_cast<size_t>(mine.bytes()), cudaMemcpyDeviceToDevice, gpu().transfers()), "cudaMemcpyAsync");
  }
  hold_back_compute();
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host, Gpu& gpu, const AcceleratorTransport& transport) {
  if (host->size() > 1) host = make_drained_host(std::move(host), gpu);
  return std::make_unique<NcclCommunicator>(std::move(host), gpu, transport);
}

}  // namespace switchyard::cuda
