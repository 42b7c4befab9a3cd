// What the tests between ranks share.
#pragma once

#include <gtest/gtest.h>
#include <nccl.h>

#include <functional>
#include <stdexcept>
#include <string>

#include "comm/mpi_api.h"
#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/self_test/device_array.h"

namespace switchyard::emulation {

inline int my_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

inline int ranks() {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

inline void good(ncclResult_t result) {
  if (result != ncclSuccess) throw std::runtime_error(std::string(ncclGetErrorString(result)) + ": " + ncclGetLastError(nullptr));
}

// An id of rank 0's, on all ranks.
inline ncclUniqueId shared_id() {
  ncclUniqueId id;
  if (my_rank() == 0) good(ncclGetUniqueId(&id));
  MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
  return id;
}

class Communicator {
 public:
  Communicator() { good(ncclCommInitRankConfig(&comm_, ranks(), shared_id(), my_rank(), nullptr)); }
  explicit Communicator(ncclComm_t comm) : comm_(comm) {}
  ~Communicator() { ncclCommDestroy(comm_); }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  operator ncclComm_t() const { return comm_; }

 private:
  ncclComm_t comm_ = nullptr;
};

// Runs the body on every rank under each mode of progress, with another seed on each rank.
inline void under_every_progress(const std::function<void()>& body) {
  for (uint64_t seed = 0; seed <= 6; ++seed) {
    set_progress(seed == 1 ? Progress::kImmediate : Progress::kDeferred, seed > 1 ? 100 * seed + static_cast<uint64_t>(my_rank()) : 0);
    set_isolation(seed % 2 == 1);
    body();
    ok(cudaDeviceSynchronize());
  }
  set_isolation(false);
  set_progress(Progress::kImmediate);
}

}  // namespace switchyard::emulation
