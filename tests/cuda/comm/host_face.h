// HostFace: a communicator of devices behind which tests of host communicators run unchanged.
//
// What a test packs on the host is copied to the device's outbox, and what arrives in the device's inbox is copied to the
// test's when the test waits for it. All copies are put into the compute stream.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "kernels/cuda/gpu.h"

namespace switchyard::cuda {

class HostFace final : public Communicator {
 public:
  HostFace(std::unique_ptr<Communicator> inner, Gpu& gpu) : gpu_(gpu), inner_(std::move(inner)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  Communicator& host() override { return inner_->host(); }
  std::unique_ptr<Communicator> split(int color, int key) override { return std::make_unique<HostFace>(inner_->split(color, key), gpu_); }

  void barrier(Call call) override { inner_->barrier(call); }
  void broadcast(Call call, Tensor tensor, int root) override { inner_->broadcast(call, tensor, root); }
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override { inner_->all_gather(call, mine, all, rows); }
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override { inner_->reduce(call, values, reduction); }

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override;
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override;
  void wait(Event event) override;

  [[noreturn]] void abort(ExitCode code) override {
    inner_->abort(code);
    std::abort();
  }
  int64_t bytes_sent() const override { return inner_->bytes_sent(); }

 private:
  // An outbox that the test sees, and the device's.
  struct Face {
    Buffer buffer;
    Tensor there;
  };
  // An inbox of the test's, and what stands for it on the device.
  struct Arrival {
    Tensor inbox;
    Buffer buffer;
    Tensor there;
  };
  void copy(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind);

  Gpu& gpu_;
  std::map<void*, Face> faces_;           // by the device's outbox
  std::map<uint64_t, Arrival> arrivals_;  // by ticket, until somebody waits for it
  std::unique_ptr<Communicator> inner_;   // ends first
};

}  // namespace switchyard::cuda
