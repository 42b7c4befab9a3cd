#include "src/data/window_order.h"

#include <algorithm>
#include <bit>

#include "kernels/rng.h"
#include "src/base/error.h"

namespace switchyard {

int64_t window_order(int64_t index, int64_t size, uint64_t seed, uint64_t epoch) {
  check(index >= 0 && index < size && size < (int64_t{1} << 62), "window_order: outside the permutation");
  constexpr uint32_t kRounds = 6;
  const int half = std::max(1, (static_cast<int>(std::bit_width(static_cast<uint64_t>(size - 1))) + 1) / 2);  // bits
  const uint64_t mask = (uint64_t{1} << half) - 1;
  const uint64_t key = Random(seed, Purpose::kDataOrder, 0, 0, 0).key;
  const uint32_t epoch_low = static_cast<uint32_t>(epoch), epoch_high = static_cast<uint32_t>(epoch >> 32);
  uint64_t value = static_cast<uint64_t>(index);
  do {
    uint64_t left = value >> half, right = value & mask;
    for (uint32_t round = 0; round < kRounds; ++round) {
      const uint64_t next = left ^ (philox(key, {static_cast<uint32_t>(right), round, epoch_low, epoch_high})[0] & mask);
      left = right;
      right = next;
    }
    value = (left << half) | right;
  } while (value >= static_cast<uint64_t>(size));
  return static_cast<int64_t>(value);
}

}  // namespace switchyard
