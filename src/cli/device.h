// Where a run computes: on the host, or on GPUs by a plug-in. Ranks decide together.
#pragma once

#include <memory>
#include <string>

#include "comm/accelerator.h"
#include "comm/mpi_session.h"
#include "src/config/config.pb.h"

namespace switchyard {

struct ChosenDevice {
  std::unique_ptr<Accelerator> accelerator;  // this rank's; null: the host computes
  bool shared = false;                       // ranks of one host share its devices
  bool fast_bf16 = false;                    // the device of every rank multiplies BF16 faster than F32
  std::string sentence;                      // what was chosen and why; empty where there was no choice
};

// What config.device asks for. AUTO takes GPUs where every rank finds one, else the host, and says why. The ranks of a host
// take its devices in turn. Throws, on every rank alike, for CUDA without a usable GPU, and where a host has more ranks than
// devices and parallel.device_share is false. Collective.
ChosenDevice choose_device(const MpiSession& session, Communicator& control, const Config& config);

}  // namespace switchyard
