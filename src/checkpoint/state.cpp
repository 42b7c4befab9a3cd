#include "src/checkpoint/state.h"

#include <set>

#include "src/base/error.h"

namespace switchyard {

void check_state(const State& state, int rank, int ranks) {
  std::set<std::string> names;
  for (const StateTensor& tensor : state) {
    const auto require = [&](bool holds, const char* what) {
      if (!holds) throw InternalError("state tensor '" + tensor.name + "': " + what);
    };
    require(names.insert(tensor.name).second, "the name is used twice");
    require(!tensor.name.empty() && tensor.name.size() <= 256 && tensor.name.find_first_of(" \n\r\t") == std::string::npos,
            "the name is empty, too long or has spaces");
    require(tensor.shape.elements() > 0, "it has no elements");
    const std::vector<BlockRange> ranges = blocks_of(tensor.shape);
    require(ranges.size() == tensor.blocks.size(), "its blocks are not those of its shape");
    for (size_t i = 0; i < ranges.size(); ++i) {
      const StateBlock& block = tensor.blocks[i];
      require(block.first_row == ranges[i].first_row && block.rows == ranges[i].rows, "its blocks are not those of its shape");
      require(block.owner >= 0 && block.owner < ranks, "a block's owner is no rank");
      if (block.owner != rank) continue;
      require(block.data.contiguous() && block.data.device() == Device::kHost && block.data.dtype() == tensor.dtype && block.data.data() != nullptr &&
                  block.data.elements() == block.rows * tensor.row_elements(),
              "the data of a block at its owner are missing, or have another dtype or size");
    }
  }
}

std::vector<size_t> name_order(const State& state) {
  std::vector<size_t> order(state.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return state[a].name < state[b].name; });
  return order;
}

}  // namespace switchyard
