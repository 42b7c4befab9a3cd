#include "comm/nccl/device_communicator.h"

#include <cstdlib>

namespace switchyard::cuda {

void DeviceCommunicator::all_gather(Call call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) {
  if (all.device() == Device::kHost) return host_->all_gather(call, mine, all, rows);
  const int64_t before = check_gather(mine, all, rows, rank(), size(), Device::kCuda);
  if (all.bytes() > 0) gather(call, mine, all, rows, before);
}

Tensor DeviceCommunicator::outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) {
  Transfer& last = transfers_.last(use);
  if (last.pending) complete(last);  // so that what is packed next cannot be sent in its stead
  return transfers_.hand_out(use, dtype, rows, columns);
}

void DeviceCommunicator::wait(Event event) {
  if (Transfer* transfer = transfers_.find(event)) complete(*transfer);
}

void DeviceCommunicator::complete(Transfer& transfer) {
  deliver(transfer);
  end(transfer.box).hold_back(gpu_.compute());
  transfer.pending = false;
}

void DeviceCommunicator::abort(ExitCode code) {
  host_->abort(code);
  std::abort();  // not reached
}

}  // namespace switchyard::cuda
