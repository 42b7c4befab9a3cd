// What the tests between ranks with devices share.
#pragma once

#include <memory>
#include <string>

#include "comm/checked.h"
#include "comm/mpi.h"
#include "comm/nccl/nccl.h"
#include "comm/nccl/report.h"
#include "comm/nccl/staged.h"
#include "comm/window.h"
#include "tests/comm/mpi/mpi_ranks.h"

namespace switchyard::cuda {

inline int devices() {
  std::string sentence;
  return count_devices(sentence);
}

// Ranks share devices where there are too few.
inline int device_of_rank() { return session()->rank() % devices(); }

enum class Way { kNccl, kCheckedNccl, kStaged, kStagedOverWindow };

inline const char* name(Way way) {
  switch (way) {
    case Way::kNccl: return "nccl";
    case Way::kCheckedNccl: return "checked_nccl";
    case Way::kStaged: return "staged";
    case Way::kStagedOverWindow: return "staged_over_window";
  }
  return "?";
}

// NCCL refuses ranks that share a device.
inline bool can(Way way) {
  const int found = devices();
  return way == Way::kNccl || way == Way::kCheckedNccl ? found >= session()->size() : found > 0;
}

inline std::unique_ptr<Communicator> make(Way way, Gpu& gpu, OutboxSizes sizes, double deadline = 60) {
  const AcceleratorTransport transport{.sizes = sizes, .staged = way == Way::kStaged || way == Way::kStagedOverWindow, .deadline = deadline};
  const auto host = [&] { return make_mpi_communicator(session()->world(), transport.staged ? sizes : OutboxSizes{}); };
  switch (way) {
    case Way::kNccl: return make_nccl_communicator(host(), gpu, transport);
    case Way::kCheckedNccl: return make_checked_communicator(make_nccl_communicator(host(), gpu, transport));
    case Way::kStaged: return make_staged_communicator(host(), gpu, transport);
    case Way::kStagedOverWindow: return make_staged_communicator(make_window_communicator(session()->world(), sizes).communicator, gpu, transport);
  }
  return nullptr;
}

}  // namespace switchyard::cuda

#define SWITCHYARD_NEEDS(way) \
  if (!can(way)) GTEST_SKIP() << name(way) << " needs other devices than the " << devices() << " that there are"
