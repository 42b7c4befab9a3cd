// The order of windows in an epoch: a keyed bijection of their numbers, so that the cursor is one integer and no list of
// windows is ever shuffled, stored or sent.
#pragma once

#include <cstdint>

namespace switchyard {

// A bijection of 0 .. size - 1, chosen by (seed, epoch): a Feistel network of six rounds on the smallest even number of
// bits that holds size - 1, walked until it falls inside (Black and Rogaway 2002). 0 <= index < size, size < 2^62.
int64_t window_order(int64_t index, int64_t size, uint64_t seed, uint64_t epoch);

}  // namespace switchyard
