// Blocks: the pieces in which parameters are owned, summed, updated, digested. A block is a run of whole rows of at most
// kBlockElements elements (one row, if a row is longer); the cut depends on the shape alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace switchyard {

inline constexpr int64_t kBlockElements = 64 * 1024;

struct BlockRange {
  int64_t first_row = 0;
  int64_t rows = 0;
};

// A vector [columns] counts as one row.
inline std::vector<BlockRange> blocks_of(const Shape& shape) {
  const int64_t rows = shape.rank() <= 1 ? 1 : shape[0];
  const int64_t columns = std::max<int64_t>(1, rows == 0 ? 1 : shape.elements() / rows);
  const int64_t step = std::max<int64_t>(1, kBlockElements / columns);
  std::vector<BlockRange> blocks;
  for (int64_t first = 0; first < rows; first += step) blocks.push_back({first, std::min(step, rows - first)});
  return blocks;
}

}  // namespace switchyard
