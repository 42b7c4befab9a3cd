// Accelerator: a device for this rank's arithmetic, and the way its rows take between ranks. It comes from a plug-in, a shared
// library that the program opens when a run asks for it, so that the program itself needs neither the device's driver nor
// its libraries.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "kernels/backend.h"

namespace switchyard {

// How rows travel between devices.
struct AcceleratorTransport {
  OutboxSizes sizes = {};  // of the outboxes on the device
  bool staged = false;     // through the host, by its communicator: for ranks that share a device, which NCCL refuses
  double deadline = 0;     // seconds after which an operation that has not ended is given up; 0: never
};

// One device, as one rank uses it. Outlives the tensors, the backend's users and the communicators made from it.
class Accelerator {
 public:
  virtual ~Accelerator() = default;

  virtual Backend& backend() = 0;
  // Name, number and versions, for the log: "NVIDIA H100 80GB HBM3, device 0; driver 13.0, runtime 13.0, NCCL 2.28.3".
  virtual std::string description() const = 0;
  // A communicator of host's ranks for rows on this device. `host` carries everything else, and becomes its host().
  // Throws Error(kFailure). Collective; where it throws on one rank, the others may have to be told.
  virtual std::unique_ptr<Communicator> connect(std::unique_ptr<Communicator> host, const AcceleratorTransport& transport) = 0;
};

// What a plug-in exports, by the C name kAcceleratorEntry: a function without arguments that answers with the address of one.
struct AcceleratorPlugin {
  // Of this structure and all that it leads to; a plug-in of another version is not used.
  int version = 0;
  // How many devices this process can use; 0 with the reason in `sentence`. Never throws.
  int (*devices)(std::string& sentence) = nullptr;
  // Device `number` for the calling thread, which must be the only one to use it. Throws Error(kFailure).
  std::unique_ptr<Accelerator> (*open)(int number) = nullptr;
  // One line for each thing that `switchyard doctor` shows: name, a tab, what was found. Never throws.
  std::string (*report)() = nullptr;
};
inline constexpr int kAcceleratorVersion = 1;
inline constexpr const char* kAcceleratorEntry = "switchyard_accelerator";

// The plug-in beside the program, or else where the loader looks: libswitchyard_cuda.so. Null with the reason in
// `sentence` where there is none, or one that does not fit.
const AcceleratorPlugin* open_accelerator_plugin(std::string& sentence);

}  // namespace switchyard
