// The host that a rank runs on: how many ranks share it, on how many cores, with how much shared memory.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/mpi_api.h"

namespace switchyard {

struct Host {
  int ranks = 1;  // of the communicator, on this host
  int cores = 1;  // that these ranks may use together
  bool crowded() const { return ranks > cores; }
};

// Collective over `comm`.
Host find_host(MPI_Comm comm);

// [P] for each rank the lowest rank on its host. Collective over `comm`.
std::vector<int> hosts_of_ranks(MPI_Comm comm);

// Cores on which this process may run; those of the whole host where a launcher has bound it to a part.
int available_cores(bool bound);

// Bytes free in the file system that holds shared windows (/dev/shm); 0 if this process cannot write there.
int64_t free_shared_memory();

}  // namespace switchyard
