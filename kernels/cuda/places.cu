#include "kernels/cuda/places.h"

#include <limits>

#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {
namespace {

__global__ void __launch_bounds__(kBlock) count_keys(int32_t* count, const int32_t* key, Tiling tiling) {
  for (int64_t i = thread_number(); i < tiling.items; i += threads_of_grid()) {
    if (key[i] >= 0) atomicAdd(&count[key[i] * tiling.tiles + tiling.tile_of(i)], 1);  // a sum of integers has no order
  }
}

// Of lanes lane - reach .. lane.
__device__ int sum_of_lanes_before(int own, int reach) {
  int sum = own;
  for (int distance = 1; distance != kWarp; distance *= 2) {
    const int lower = __shfl_up_sync(kFullMask, sum, static_cast<unsigned>(distance));
    if (distance <= reach) sum += lower;
  }
  return sum;
}

// A warp for each key, a lane for each tile. start[key, tile] becomes (slot of the tile's first item, how many the tile may
// keep: not above 0 where the group is full before it).
__global__ void __launch_bounds__(kBlock)
    start_tiles(int2* start, int32_t* requested, int32_t* kept, const int32_t* count, Tiling tiling, int64_t keys, int capacity) {
  const int lane = lane_number();
  for (int64_t key = warp_number(); key < keys; key += warps_of_grid()) {
    int open = 0;       // items so far of a group that an earlier chunk of tiles began and did not end
    int kept_rows = 0;  // in groups that ended
    for (int64_t chunk = 0; chunk < tiling.tiles; chunk += kWarp) {
      const int64_t tile = chunk + lane, in_group = tile % tiling.tiles_of_group;
      const bool exists = tile < tiling.tiles, ends_group = exists && in_group == tiling.tiles_of_group - 1;
      const int own = exists ? count[key * tiling.tiles + tile] : 0;
      const int sum = sum_of_lanes_before(lane == 0 ? own + open : own, static_cast<int>(min(in_group, static_cast<int64_t>(lane))));
      const int keeps = ends_group ? min(sum, capacity) : 0;
      const int kept_sum = sum_of_lanes_before(keeps, lane);
      const int before = sum - own;  // in earlier tiles of the group
      if (exists) start[key * tiling.tiles + tile] = make_int2(kept_rows + kept_sum - keeps + before, capacity - before);
      if (ends_group && requested != nullptr) requested[tile / tiling.tiles_of_group * keys + key] = sum;
      open = __shfl_sync(kFullMask, ends_group ? 0 : sum, kWarp - 1);
      kept_rows += __shfl_sync(kFullMask, kept_sum, kWarp - 1);
    }
    if (lane == 0) kept[key] = kept_rows;
  }
}

struct SumsOfThreads {
  int x[kBlock];
};

// One block. first[key]: items that lower keys keep, or have room for in blocks of `block`; a thread has neighbouring keys.
__global__ void __launch_bounds__(kBlock) start_keys(int32_t* first, const int32_t* kept, int64_t keys, int block) {
  SumsOfThreads& sums = shared_storage<SumsOfThreads>();
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t share = divide_up(keys, kBlock), begin = thread * share, end = min(begin + share, keys);
  int own = 0;
  for (int64_t key = begin; key < end; ++key) own += kept[key];
  sums.x[thread] = own;
  __syncthreads();
  int before = 0;
  for (int lower = 0; lower < thread; ++lower) before += sums.x[lower];
  for (int64_t key = begin; key < end; ++key) {
    first[key] = block > 0 ? static_cast<int32_t>(key * block) : before;
    before += kept[key];
  }
}

// The rank in a tile is counted plainly: all lanes of a warp read the same keys.
__global__ void __launch_bounds__(kBlock)
    place_items(int32_t* slot, int32_t* position, int32_t* item, const int32_t* key, const int2* start, const int32_t* first, Tiling tiling) {
  for (int64_t i = thread_number(); i < tiling.items; i += threads_of_grid()) {
    const int32_t own = key[i];
    int32_t number = -1, row = -1;
    if (own >= 0) {
      const int64_t tile = tiling.tile_of(i);
      int rank = 0;
      for (int64_t earlier = tiling.first_item(tile); earlier < i; ++earlier) rank += key[earlier] == own ? 1 : 0;
      const int2 from = start[own * tiling.tiles + tile];
      if (rank < from.y) {
        number = from.x + rank;
        row = first[own] + number;
        item[row] = static_cast<int32_t>(i);
      }
    }
    if (slot != nullptr) slot[i] = number;
    if (position != nullptr) position[i] = row;
  }
}

void fill_bytes(void* data, int value, int64_t bytes, cudaStream_t stream) {
  if (bytes > 0) require(cudaMemsetAsync(data, value, static_cast<size_t>(bytes), stream), "cudaMemsetAsync");
}

}  // namespace

Tiling tiling_of(int64_t items, int64_t group_items) {
  const int64_t of_group = std::clamp<int64_t>(group_items, 1, std::max<int64_t>(1, items)), tiles = divide_up(of_group, kTile);
  return {items, of_group, tiles, divide_up(items, of_group) * tiles};
}

Placing::Placing(const Tiling& tiling, int64_t keys, const SlotRule& rule, Pieces& pieces)
    : tiling_(tiling),
      keys_(keys),
      capacity_(static_cast<int>(std::clamp<int64_t>(rule.capacity, 0, std::numeric_limits<int32_t>::max()))),
      block_(static_cast<int>(rule.block)),
      rows_(rule.rows({tiling.items, keys})),
      count_(pieces.take<int32_t>(keys * tiling.tiles)),
      start_(pieces.take<int2>(keys * tiling.tiles)),
      first_(pieces.take<int32_t>(keys)) {
  check(tiling.items <= std::numeric_limits<int32_t>::max(), "sorting: more items than 32 bits number");
}

void Placing::run(cudaStream_t stream, void* memory, const int32_t* key, const Places& places) const {
  const dim3 items = blocks_for_items(tiling_.items);
  fill_bytes(count_.in(memory), 0, keys_ * tiling_.tiles * static_cast<int64_t>(sizeof(int32_t)), stream);
  fill_bytes(places.item, -1, rows_ * static_cast<int64_t>(sizeof(int32_t)), stream);
  enqueue(&count_keys, {items, kBlock, 0, stream}, count_.in(memory), key, tiling_);
  enqueue(&start_tiles, {blocks_for_rows(keys_), kBlock, 0, stream}, start_.in(memory), places.requested, places.kept, count_.in(memory), tiling_, keys_,
          capacity_);
  enqueue(&start_keys, {1, kBlock, 0, stream}, first_.in(memory), places.kept, keys_, block_);
  enqueue(&place_items, {items, kBlock, 0, stream}, places.slot, places.position, places.item, key, start_.in(memory), first_.in(memory), tiling_);
}

}  // namespace switchyard::cuda
