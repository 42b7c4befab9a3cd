// Stable sorting by a small key: tokens by their expert, table rows by a digit. Each key is counted in every tile of items,
// the counts of earlier tiles are summed, and an item's rank in its tile says the rest. All numbers are integers, so the
// results are the same in every order of work.
#pragma once

#include "kernels/cuda/pieces.h"
#include "kernels/cuda/support.h"

namespace switchyard::cuda {

inline constexpr int64_t kTile = 256;  // items that are counted together

// Items 0 .. items - 1 lie in groups, of which the last may be shorter; a tile lies within one group.
struct Tiling {
  int64_t items;
  int64_t group_items;     // at most max(1, items)
  int64_t tiles_of_group;  // some of the last group may be empty
  int64_t tiles;           // of all groups

  __device__ int64_t first_item(int64_t tile) const { return tile / tiles_of_group * group_items + tile % tiles_of_group * kTile; }
  // Not above first_item for an empty tile.
  __device__ int64_t end_item(int64_t tile) const {
    const int64_t end_of_group = (tile / tiles_of_group + 1) * group_items;
    return min(first_item(tile) + kTile, min(end_of_group, items));
  }
  __device__ int64_t tile_of(int64_t item) const {
    const int64_t group = item / group_items;
    return group * tiles_of_group + (item - group * group_items) / kTile;
  }
};
Tiling tiling_of(int64_t items, int64_t group_items);

// Results on the device; null where not wanted.
struct Places {
  int32_t* kept = nullptr;       // [keys] items that each key keeps; always wanted
  int32_t* item = nullptr;       // [rows of the list] the kept items by (key, number), -1 where none is; always wanted
  int32_t* requested = nullptr;  // [groups, keys]
  int32_t* slot = nullptr;       // [items] number among the kept items of its key; -1 where none
  int32_t* position = nullptr;   // [items] place in `item`; -1 where none
};

// One sorting: in each group the first rule.capacity items of a key are kept. Its scratch is a part of `pieces`.
class Placing {
 public:
  Placing(const Tiling& tiling, int64_t keys, const SlotRule& rule, Pieces& pieces);
  // key [items] on the device, -1 or in [0, keys). `memory` holds the pieces.
  void run(cudaStream_t stream, void* memory, const int32_t* key, const Places& places) const;

 private:
  Tiling tiling_;
  int64_t keys_;
  int capacity_;
  int block_;               // 0: none
  int64_t rows_;            // of the list
  Piece<int32_t> count_;  // [keys, tiles]
  Piece<int2> start_;     // [keys, tiles]
  Piece<int32_t> first_;  // [keys]
};

}  // namespace switchyard::cuda
