// The world of one rank. MPI is never initialised. Every operation completes at once.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace switchyard {

std::unique_ptr<Communicator> make_self_communicator(OutboxSizes sizes);

}  // namespace switchyard
