// NCCL's communicators here, and what both halves of the library share.
#pragma once

#include <nccl.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_emulation/nccl_messages.h"

// The handle of nccl.h, which is ours to define.
struct ncclComm {
  std::shared_ptr<switchyard::emulation::Members> members;
  bool blocking = true;
  int device = 0;
  // Of a communicator that does not block: what it is still doing since a call returned ncclInProgress. True: done.
  std::function<bool()> pending;
  ncclResult_t error = ncclSuccess;
  bool created = false;
};

namespace switchyard::emulation {

// A group of calls between ncclGroupStart and ncclGroupEnd.
struct Work {
  ncclComm_t comm;
  cudaStream_t stream;
  std::shared_ptr<Exchange> exchange;
};

struct Group {
  int depth = 0;
  std::vector<Work> work;
};
Group& group();

// Remembers a sentence for ncclGetLastError and returns the code.
ncclResult_t refuse(ncclResult_t code, const std::string& sentence);

// ncclSuccess where a call may be issued now.
ncclResult_t check_usable(ncclComm_t comm);

// Lets `poll` come to its end: at once for a communicator that blocks, at later calls of ncclCommGetAsyncError for others.
ncclResult_t finish(ncclComm_t comm, std::function<bool()> poll);

// Issues work, or, inside a group, keeps it for the group's end.
ncclResult_t issue(const Work& work);

}  // namespace switchyard::emulation
