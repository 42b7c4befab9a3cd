// A communicator that compares every operation with the peers' before it begins.
//
// Ranks that issue different operations deadlock, or worse, exchange each other's bytes. This decorator all-gathers, over
// the communicator it wraps, what each rank is about to do: the number of the operation, its kind, call name, layer,
// dtype, row width, root or reduction, and for an all_to_all the rows to and from every peer. Where they disagree every
// rank throws the same InternalError, which names the ranks, the calls and the layers. wait() is not compared: it is no
// collective.
//
// Tests always run with it; runs do with --check-collectives. It costs one small all-gather per operation, which is not
// counted in bytes_sent().
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace switchyard {

std::unique_ptr<Communicator> make_checked_communicator(std::unique_ptr<Communicator> inner);

}  // namespace switchyard
