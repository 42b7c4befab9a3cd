// What an all_to_all costs on a communicator, for the choice of a transport at the start of a run.
#pragma once

#include <cstdint>

#include "comm/communicator.h"

namespace switchyard {

// Nanoseconds of one all_to_all of this many bytes per pair of ranks, a multiple of 4, out of outboxes of this use: the median
// over five of the slowest rank's time, after two that do not count. The same on every rank. Collective.
int64_t measure_all_to_all(Communicator& comm, OutboxUse use, int64_t bytes_per_pair);

}  // namespace switchyard
