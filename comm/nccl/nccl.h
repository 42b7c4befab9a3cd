// Ranks with a device each: rows travel from device to device by NCCL.
//
// A transfer is one message for each pair of ranks, as the two sides may cut the rows differently and neither knows the
// other's cuts. Rows that are one run leave from the outbox and arrive in the inbox; others go through staging memory on the
// device, packed before and spread after by one kernel each. A rank's own rows are copied. Whoever has no rows for a peer
// sends it nothing, and the peer, which knows the number too, expects nothing.
#pragma once

#include <memory>

#include "comm/accelerator.h"
#include "kernels/cuda/gpu.h"

namespace switchyard::cuda {

// Collective. Throws AgreedError on all ranks where NCCL cannot connect them. One rank needs no NCCL.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host, Gpu& gpu, const AcceleratorTransport& transport);

}  // namespace switchyard::cuda
