// The transport of a run, by the name that the configuration uses.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "comm/window.h"

namespace switchyard {

enum class Transport : uint8_t { kAuto, kSelf, kMpi, kWindow };

// AUTO, SELF, MPI, WINDOW. Throws Error(kUsage) for any other name.
Transport transport_named(std::string_view name);

struct TransportOptions {
  Transport transport = Transport::kAuto;
  OutboxSizes sizes = {};     // 0: grow, which a window cannot
  bool checked = false;  // compare every collective with the peers' first
  WindowOptions window = {};
};

struct Made {
  std::unique_ptr<Communicator> communicator;
  std::string sentence;  // what was chosen and why; the same on every rank
};

// A communicator of all ranks of the session. One rank needs no transport whatever the name is, so that a configuration
// does not depend on the number of ranks. AUTO takes a window where all ranks are on one host and its shared memory has
// room, else MPI. Throws Error(kUsage) for SELF where there are more ranks. Collective.
Made make_communicator(const MpiSession& session, const TransportOptions& options);

}  // namespace switchyard
