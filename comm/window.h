// Ranks of one host: outboxes in shared memory, from which peers pull their rows.
//
// Each rank's part of one MPI shared window holds its four outboxes, the tables that say which rows go where, and per
// outbox two sequence flags: `published` (the rows of transfer t are there) and `pulled` (this rank has all its rows of
// transfer t). A sender packs, publishes and goes on; wait() pulls. Control operations go through MPI.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "comm/host.h"
#include "comm/mpi.h"

namespace switchyard {

struct WindowOptions {
  std::function<int64_t()> room = free_shared_memory;  // bytes; asked by one rank of each host
};

struct WindowOrMpi {
  std::unique_ptr<Communicator> communicator;
  std::string fallback;  // why it is mpi; empty if it is a window
};

// Collective over `parent`. The decision is the same on every rank. A window takes its memory at once and does not grow,
// so it needs sizes.
WindowOrMpi make_window_communicator(MPI_Comm parent, OutboxSizes sizes, const WindowOptions& options = {});

// Bytes of one rank's part of the window.
int64_t window_bytes(OutboxSizes sizes, int ranks);

}  // namespace switchyard
