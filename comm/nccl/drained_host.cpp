#include "comm/nccl/drained_host.h"

#include <cstdlib>
#include <utility>

namespace switchyard::cuda {
namespace {

class DrainedHost final : public Communicator {
 public:
  DrainedHost(std::unique_ptr<Communicator> inner, Gpu& gpu) : inner_(std::move(inner)), gpu_(gpu) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  // Of the host alone.
  std::unique_ptr<Communicator> split(int color, int key) override { return drained().split(color, key); }

  void barrier(Call call) override { drained().barrier(call); }
  void broadcast(Call call, Tensor tensor, int root) override { drained().broadcast(call, tensor, root); }
  void all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override { drained().all_gather(call, mine, all, rows); }
  void reduce(Call call, std::span<int64_t> values, Reduction reduction) override { drained().reduce(call, values, reduction); }

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override { return drained().outbox(use, dtype, rows, columns); }
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event after) override {
    return drained().all_to_all(call, outbox, send, inbox, receive, after);
  }
  void wait(Event event) override { drained().wait(event); }

  [[noreturn]] void abort(ExitCode code) override {
    inner_->abort(code);
    std::abort();  // not reached
  }
  int64_t bytes_sent() const override { return inner_->bytes_sent(); }

 private:
  Communicator& drained() {
    gpu_.finish(gpu_.transfers());
    return *inner_;
  }

  std::unique_ptr<Communicator> inner_;
  Gpu& gpu_;
};

}  // namespace

std::unique_ptr<Communicator> make_drained_host(std::unique_ptr<Communicator> host, Gpu& gpu) { return std::make_unique<DrainedHost>(std::move(host), gpu); }

}  // namespace switchyard::cuda
