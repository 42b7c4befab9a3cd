// NcclComm: one communicator of NCCL's, which never keeps the host waiting for longer than its deadline.
//
// It does not block: NCCL's calls return at once, and what they ask for is in the stream when NCCL says that it is no longer
// in progress. Only then may an event be recorded after it. What is in the stream may still wait for other ranks; as a
// Watch, this looks after it while the host waits for the device.
#pragma once

#include <nccl.h>

#include <memory>
#include <optional>
#include <type_traits>

#include "comm/communicator.h"
#include "kernels/cuda/gpu.h"

namespace switchyard::cuda {

// Throws Error(kFailure) with NCCL's own words unless `status` is success or "in progress".
void require(ncclResult_t status, const char* function, Call call);

class NcclComm final : public Watch {
 public:
  // Connects the devices of host's ranks. Collective: throws AgreedError on all ranks where it fails on one. deadline: in
  // seconds, for whatever waits for other ranks; 0: never.
  NcclComm(Communicator& host, Gpu& gpu, double deadline);
  // Waits for what is under way; collective. Not where an exception is on its way: the peers may never come.
  ~NcclComm() override;
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;

  // Calls issue(ncclComm_t, cudaStream_t) between the start and the end of a group, and sees it into the transfer stream.
  template <class Issue>
  void group(Call call, Issue issue) {
    begin(call);
    issue(comm_.get(), gpu_.transfers());
    end(call);
  }

  std::optional<Error> look(double seconds) override;
  void abandon() noexcept override { comm_.reset(); }

 private:
  struct Abort {
    void operator()(ncclComm_t comm) const noexcept { static_cast<void>(ncclCommAbort(comm)); }
  };

  void begin(Call call);
  void end(Call call);
  void connect(const ncclUniqueId& id);
  // Polls until NCCL is done with what it was asked for. What went wrong, if anything.
  std::optional<Error> settle(Call call) const;
  std::optional<Error> failure(ncclResult_t state, Call call) const;
  std::optional<Error> hang(double seconds, Call call) const;

  Gpu& gpu_;
  int rank_;
  int size_;
  double deadline_;
  std::unique_ptr<std::remove_pointer_t<ncclComm_t>, Abort> comm_;  // null: abandoned
  Mark last_;                                                       // the end of the last group
  Call call_;                                                       // whose it is
};

}  // namespace switchyard::cuda
