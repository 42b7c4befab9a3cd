// What the communicators of devices share: a communicator of the same ranks for everything on the host, outboxes in the
// device's memory, and the points at which transfers have ended.
//
// Transfers run on the device's transfer stream, one after another in the order of issue. The host waits for none of them:
// wait() and outbox() hold back the compute stream.
#pragma once

#include <array>
#include <memory>
#include <utility>

#include "comm/accelerator.h"
#include "comm/transfers.h"
#include "kernels/cuda/gpu.h"

namespace switchyard::cuda {

class DeviceCommunicator : public Communicator {
 public:
  // The Gpu outlives it.
  DeviceCommunicator(std::unique_ptr<Communicator> host, Gpu& gpu, const AcceleratorTransport& transport)
      : host_(std::move(host)), gpu_(gpu), transport_(transport), transfers_(host_->rank(), host_->size(), transport.sizes, gpu.memory()) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  Communicator& host() override { return *host_; }

  void barrier(Call call) override { host_->barrier(call); }
  void broadcast(Call call, Tensor tensor, int root) override { host_->broadcast(call, tensor, root); }
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override;
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override { host_->reduce(call, values, reduction); }

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override;
  void wait(Event event) override;

  [[noreturn]] void abort(ExitCode code) override;

 protected:
  // As all_gather, of tensors on the device that were checked and have bytes; `before`: where this rank's rows begin.
  virtual void gather(Call call, const Tensor& mine, const Tensor& all, std::span<const int64_t> rows, int64_t before) = 0;
  // Puts what is left of a transfer into the transfer stream.
  virtual void deliver(Transfer&) {}

  // The transfer stream goes on when the compute stream has done what it was given so far.
  void hold_back_transfers() {
    given_.record(gpu_.compute());
    given_.hold_back(gpu_.transfers());
  }
  // The compute stream goes on when the transfer stream has done what it was given so far.
  void hold_back_compute() {
    taken_.record(gpu_.transfers());
    taken_.hold_back(gpu_.compute());
  }
  // All of a transfer is in the transfer stream.
  void mark_end(const Transfer& transfer) { ends_[static_cast<size_t>(transfer.box)].record(gpu_.transfers()); }
  const Mark& end(int box) const { return ends_[static_cast<size_t>(box)]; }

  Gpu& gpu() const { return gpu_; }
  int64_t bytes_sent_by_host() const { return host_->bytes_sent(); }
  const AcceleratorTransport& transport() const { return transport_; }
  Transfers& transfers() { return transfers_; }

 private:
  void complete(Transfer& transfer);

  std::unique_ptr<Communicator> host_;
  Gpu& gpu_;
  AcceleratorTransport transport_;
  Transfers transfers_;
  Mark given_, taken_;
  std::array<Mark, kBoxes> ends_;  // of the transfer that last used each outbox
};

}  // namespace switchyard::cuda
