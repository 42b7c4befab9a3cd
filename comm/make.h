// The transport of a run, by the name that the configuration uses.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "comm/window.h"

namespace switchyard {

enum class Transport : uint8_t { kAuto, kSelf, kMpi, kMpiPairwise, kWindow, kTwoLevel };

// AUTO, SELF, MPI, MPI_PAIRWISE, WINDOW, TWO_LEVEL. Throws Error(kUsage) for any other name.
Transport transport_named(std::string_view name);
const char* name(Transport transport);

struct TransportOptions {
  Transport transport = Transport::kAuto;
  OutboxSizes sizes = {};  // 0: grow, which a window cannot
  bool checked = false;    // compare every collective with the peers' first
  WindowOptions window = {};
  std::string emulated_link = {};  // a link file, read by rank 0: transfers take the time that it says; empty: their own
};

struct Made {
  std::unique_ptr<Communicator> communicator;
  std::string sentence;  // what was chosen and why; the same on every rank
};

// A communicator of all ranks of the session. One rank needs no transport whatever the name is, so that a configuration
// does not depend on the number of ranks. AUTO measures a small all_to_all on each transport that these ranks can have
// and takes the fastest: WINDOW, MPI and MPI_PAIRWISE on one host; MPI, MPI_PAIRWISE and TWO_LEVEL on several. Whatever is
// not there is replaced with a sentence: WINDOW by MPI where ranks share no memory or it has no room, TWO_LEVEL by
// WINDOW on one host and by MPI where no two ranks share one. Every decision is the same on all ranks. The session's
// watchdog, if it has one, watches the result.
//
// Throws Error(kUsage) for SELF where there are more ranks, and what read_link_file throws. Collective.
Made make_communicator(const MpiSession& session, const TransportOptions& options);

}  // namespace switchyard
