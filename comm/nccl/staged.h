// Ranks that share a device, which NCCL refuses: rows travel by way of the host, through its communicator's outboxes and
// pinned memory.
#pragma once

#include <memory>

#include "comm/accelerator.h"
#include "kernels/cuda/gpu.h"

namespace switchyard::cuda {

// `host` has outboxes of at least the transport's sizes. The deadline is the host's affair: the device waits for no rank.
std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> host, Gpu& gpu, const AcceleratorTransport& transport);

}  // namespace switchyard::cuda
