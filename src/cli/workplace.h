// Workplace: the parts of a rank, made from a settled configuration, and their owner.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "comm/mpi_session.h"
#include "kernels/backend.h"
#include "src/base/trace.h"
#include "src/cli/app.h"
#include "src/cli/device.h"
#include "src/config/config.pb.h"
#include "src/train/runtime.h"

namespace switchyard {

class Workplace {
 public:
  // `config` is resolved and the same on every rank, `device` what was chosen for it. Outboxes are sized for its model and
  // step. The log says which device and arithmetic, how many threads and which transport there are. Collective.
  Workplace(const MpiSession& session, ChosenDevice device, const Config& config, bool check_collectives, spdlog::logger& log);

  Parts parts() { return {backend(), *communicator_, grid_, trace_}; }
  int threads() const { return threads_; }
  const std::string& transport() const { return transport_; }  // what was chosen and why

 private:
  Backend& backend() { return device_.accelerator ? device_.accelerator->backend() : *own_; }
  void connect(const MpiSession& session, const Config& config, bool check_collectives);

  ChosenDevice device_;
  int threads_;
  std::unique_ptr<Backend> own_;  // null where there is an accelerator
  Grid grid_;
  Trace trace_;
  std::string transport_;
  std::unique_ptr<Communicator> communicator_;
};

// Threads of a rank: what the configuration says, or else the host's cores over its ranks.
int threads_of(const Config& config, const Host& host);

}  // namespace switchyard
