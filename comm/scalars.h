// Partial results in F64, brought to every rank in one order. What is added, and how, is the caller's affair.
#pragma once

#include <span>

#include "comm/communicator.h"

namespace switchyard {

// all = the partials of rank 0, of rank 1, ...: counts[r] of rank r. `counts` is the same on every rank; all holds their
// sum. Collective.
inline void gather_scalars(Communicator& comm, Call call, std::span<const double> mine, std::span<const int64_t> counts, std::span<double> all) {
  const int64_t own = static_cast<int64_t>(mine.size());
  const int64_t total = static_cast<int64_t>(all.size());
  // A Tensor does not tell inputs from outputs; all_gather only reads its first.
  double* const partials = const_cast<double*>(mine.data());
  comm.all_gather(call, Tensor(partials, Dtype::kF64, {own}), Tensor(all.data(), Dtype::kF64, {total}), counts);
}

}  // namespace switchyard
