// Two-level communicators for tests: thread ranks on hosts that are pretended.
#pragma once

#include <functional>
#include <vector>

#include "comm/two_level.h"
#include "tests/ranks.h"

namespace switchyard {

struct TwoLevelWorld {
  std::vector<int> hosts;     // [P]
  OutboxSizes sizes = {};     // 0: outboxes grow
  int64_t deliver_bytes = 0;  // handed out in one round inside a host; 0: all that there is
};

// Runs body on one rank per entry of hosts. The parts inside hosts are checked (comm/checked.h).
inline void run_two_level(const TwoLevelWorld& options, const std::function<void(TwoLevelCommunicator&)>& body) {
  const int size = static_cast<int>(options.hosts.size());
  ThreadWorld across(size);
  run_ranks(size,
            [&](Communicator& world) {
              try {
                TwoLevelParts parts;
                parts.across = across.communicator(world.rank());
                parts.collect = world.split(options.hosts[static_cast<size_t>(world.rank())], world.rank());
                parts.deliver = world.split(options.hosts[static_cast<size_t>(world.rank())], world.rank());
                parts.deliver_bytes = options.deliver_bytes;
                parts.hosts = options.hosts;
                body(*make_two_level_communicator(std::move(parts)));
              } catch (const Error& error) {
                across.fail(world.rank(), error.what());
                throw;
              }
            },
            {.sizes = options.sizes});
}

}  // namespace switchyard
