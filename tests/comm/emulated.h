// Emulated links for tests: thread ranks, each with a clock of its own that nothing but the test moves.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "comm/emulated.h"

namespace switchyard {

// A rank's time. It moves where the rank computes and where it sleeps: so a run takes the same time on any machine.
class FakeClock final : public LinkClock {
 public:
  int64_t now_ns() override { return now_; }
  void sleep_until(int64_t ns) override { now_ = std::max(now_, ns); }
  void compute(int64_t ns) { now_ += ns; }

 private:
  int64_t now_ = 0;
};

// An emulated link on the ranks of `comm`. Collective.
inline std::unique_ptr<Communicator> emulate(Communicator& comm, const LinkModel& model, std::vector<int> hosts, std::shared_ptr<LinkClock> clock) {
  std::unique_ptr<Communicator> inner = comm.split(0, comm.rank());
  std::unique_ptr<Communicator> stamps = comm.split(0, comm.rank());
  return make_emulated_communicator(std::move(inner), std::move(stamps), {model, std::move(hosts)}, std::move(clock));
}

}  // namespace switchyard
