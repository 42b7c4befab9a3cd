// What every transport promises, as bodies that run on any communicator of any size. The test of thread ranks and the
// program that mpirun starts run the same list.
#pragma once

#include <vector>

#include "comm/communicator.h"

namespace switchyard {

struct TransportCase {
  const char* name;
  void (*run)(Communicator&);
  OutboxSizes sizes;  // 0: outboxes must grow
};

const std::vector<TransportCase>& transport_cases();

// Calls of operator new on this thread so far.
int64_t allocations_of_this_thread();

}  // namespace switchyard
