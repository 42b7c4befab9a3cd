#include "comm/nccl/staged.h"

#include <utility>
#include <vector>

#include "comm/nccl/device_communicator.h"

namespace switchyard::cuda {
namespace {

// The host's half of a transfer.
struct Stage {
  explicit Stage(Memory& pinned) : memory(pinned) {}
  Event event;
  Workspace memory;  // the rows that arrive, one peer's after another's
  Tensor inbox;      // there
};

class StagedCommunicator final : public DeviceCommunicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> from_host, Gpu& gpu, const AcceleratorTransport& transport)
      : DeviceCommunicator(std::move(from_host), gpu, transport),
        stages_{Stage(gpu.pinned()), Stage(gpu.pinned()), Stage(gpu.pinned()), Stage(gpu.pinned())},
        gathered_(gpu.pinned()) {}

  std::unique_ptr<Communicator> split(int color, int key) override { return make_staged_communicator(host().split(color, key), gpu(), transport()); }
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override;
  int64_t bytes_sent() const override { return bytes_sent_by_host(); }

 protected:
  void gather(Call call, const Tensor& mine, const Tensor& all, std::span<const int64_t> rows, int64_t before) override;
  void deliver(Transfer& transfer) override;

 private:
  Stage& stage_of(const Transfer& transfer) { return stages_[static_cast<size_t>(transfer.box)]; }
  void copy(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind) {
    if (bytes > 0) require(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, gpu().transfers()), "cudaMemcpyAsync");
  }
  // From the device, after all that the compute stream was given. Returns when the bytes are there, and all that was on its way
  // to the device is, so that pinned memory may be used again.
  void bring(const Tensor& from, void* to) {
    hold_back_transfers();
    copy(to, from.data(), from.bytes(), cudaMemcpyDeviceToHost);
    require(cudaStreamSynchronize(gpu().transfers()), "cudaStreamSynchronize");
  }

  std::array<Stage, kBoxes> stages_;
  Workspace gathered_;
  std::vector<Segment> receive_;  // of the transfer at hand, in its stage
};

Event StagedCommunicator::all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive,
                                     Event after) {
  const Transfer* const earlier = transfers().find(after);
  const Event after_on_host = earlier != nullptr ? stage_of(*earlier).event : Event{};
  Transfer& transfer = transfers().begin(call, outbox, send, inbox, receive);
  const Tensor out = host().outbox(transfer.box < 2 ? OutboxUse::kExchange : OutboxUse::kBucket, outbox.dtype(), outbox.rows(), outbox.columns());
  bring(outbox, out.data());
  receive_.clear();
  int64_t arriving = 0;
  for (int peer = 0; peer < size(); ++peer) {
    if (transfer.receive.rows(peer) == 0) continue;
    receive_.push_back({peer, arriving, transfer.receive.rows(peer)});
    arriving += transfer.receive.rows(peer);
  }
  Stage& stage = stage_of(transfer);
  stage.inbox = Tensor(stage.memory.at_least(arriving * transfer.row_bytes), inbox.dtype(), {arriving, inbox.columns()});
  stage.event = host().all_to_all(call, out, send, stage.inbox, receive_, after_on_host);
  return Event{transfer.ticket};
}

void StagedCommunicator::deliver(Transfer& transfer) {
  const Stage& stage = stage_of(transfer);
  host().wait(stage.event);
  const char* from = static_cast<const char*>(stage.inbox.data());
  for (int peer = 0; peer < size(); ++peer) {
    for (const Run& run : transfer.receive.runs(peer)) {
      const int64_t bytes = run.rows * transfer.row_bytes;
      copy(transfer.inbox_bytes() + run.first_row * transfer.row_bytes, from, bytes, cudaMemcpyHostToDevice);
      from += bytes;
    }
  }
  mark_end(transfer);
}

void StagedCommunicator::gather(Call call, const Tensor& mine, const Tensor& all, std::span<const int64_t> rows, int64_t before) {
  const Tensor everything(gathered_.at_least(all.bytes()), all.dtype(), {all.rows(), all.columns()});
  const Tensor own = everything.slice_rows(before, mine.rows());
  bring(mine, own.data());
  host().all_gather(call, own, everything, rows);
  copy(all.data(), everything.data(), all.bytes(), cudaMemcpyHostToDevice);
  hold_back_compute();
}

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> host, Gpu& gpu, const AcceleratorTransport& transport) {
  return std::make_unique<StagedCommunicator>(std::move(host), gpu, transport);
}

}  // namespace switchyard::cuda
