// A communicator that compares every operation with the peers' before it begins.
//
// Ranks that issue different operations deadlock, or worse, exchange each other's bytes. This decorator sums, over the
// communicator it wraps, two integers: a digest of what each rank is about to do (the number of the operation, its kind,
// call name, layer, dtype, row width, root or reduction), weighted so that the sum is zero where all are alike, and a balance
// of the rows that an all_to_all sends and expects, zero likewise. Where a sum is not zero every rank gathers what all are
// about to do and throws the same AgreedError (kHang, for that is what it would have come to), which names the ranks, the
// calls and the layers. A difference passes unseen with a chance of 2^-40. wait() is not compared: it is no collective.
//
// Tests always run with it; runs do with --check-collectives. It costs one sum of two integers per operation, which is not
// counted in bytes_sent().
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace switchyard {

std::unique_ptr<Communicator> make_checked_communicator(std::unique_ptr<Communicator> inner);

}  // namespace switchyard
