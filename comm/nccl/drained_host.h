// The host's communicator of ranks whose devices send one another rows: before each operation, this rank's transfers end.
//
// Whoever waits for other ranks on the host has then sent all that their devices may wait for, and has heard of it, by the
// deadline, where one of them does not answer. It costs little: operations of the host are few, and follow, as a rule, a copy
// to the host that had to wait as well.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "kernels/cuda/gpu.h"

namespace switchyard::cuda {

std::unique_ptr<Communicator> make_drained_host(std::unique_ptr<Communicator> host, Gpu& gpu);

}  // namespace switchyard::cuda
