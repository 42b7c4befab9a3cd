// Three phases, each in a fixed order: a histogram for each tile of tokens, prefix sums over the tiles, and the rank of a
// token within its tile plus the tile's offset.
#include "tests/cuda_emulation/self_test/slots.h"

#include <device/seam.h>

namespace switchyard::cuda {
namespace {

constexpr int kTile = 256;
constexpr int kWarp = 32;
constexpr int kWarps = kTile / kWarp;
constexpr unsigned kFullWarp = 0xffffffffu;

__device__ int tile_token() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

// One block for each tile.
__global__ void __launch_bounds__(kTile) count_tile(const int* __restrict__ expert, int tokens, int experts, int* tile_count) {
  int* histogram = dynamic_shared<int>();  // [experts]
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kTile) histogram[e] = 0;
  __syncthreads();
  const int token = tile_token();
  if (token < tokens) atomicAdd(&histogram[expert[token]], 1);
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kTile) tile_count[static_cast<long long>(blockIdx.x) * experts + e] = histogram[e];
}

struct ScanStorage {
  int values[2][kTile];
};

// One block for each expert: tile_offset[tile, expert] becomes the sum over earlier tiles (Hillis and Steele, in chunks).
__global__ void __launch_bounds__(kTile) scan_tiles(int* tile_offset, int tile_count, int experts, int* expert_count) {
  ScanStorage& storage = shared_storage<ScanStorage>();
  const int expert = static_cast<int>(blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  int carry = 0;
  for (int first = 0; first < tile_count; first += kTile) {
    const int tile = first + thread;
    int* cell = tile_offset + static_cast<long long>(tile) * experts + expert;
    const int own = tile < tile_count ? *cell : 0;
    int current = 0;
    storage.values[current][thread] = own;
    __syncthreads();
    for (int distance = 1; distance < kTile; distance *= 2) {
      const int below = thread >= distance ? storage.values[current][thread - distance] : 0;
      storage.values[1 - current][thread] = storage.values[current][thread] + below;
      current = 1 - current;
      __syncthreads();
    }
    if (tile < tile_count) *cell = carry + storage.values[current][thread] - own;
    carry += storage.values[current][kTile - 1];
    __syncthreads();  // the next chunk overwrites what this one still reads
  }
  if (thread == 0) expert_count[expert] = carry;
}

// One block for each tile.
__global__ void __launch_bounds__(kTile)
    place_tokens(const int* __restrict__ expert, int tokens, int experts, int capacity, const int* __restrict__ tile_offset, int* __restrict__ slot) {
  int* warp_count = dynamic_shared<int>();  // [kWarps, experts]
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const int warp = thread / kWarp;
  for (int i = thread; i < kWarps * experts; i += kTile) warp_count[i] = 0;
  __syncthreads();
  const int token = tile_token();
  const int mine = token < tokens ? expert[token] : -1;
  const unsigned peers = __match_any_sync(kFullWarp, mine);
  const int rank_in_warp = __popc(peers & ((1u << lane) - 1u));
  if (mine >= 0 && rank_in_warp == 0) warp_count[warp * experts + mine] = __popc(peers);
  __syncthreads();
  if (mine < 0) return;
  int position = tile_offset[static_cast<long long>(blockIdx.x) * experts + mine] + rank_in_warp;
  for (int earlier = 0; earlier < warp; ++earlier) position += warp_count[earlier * experts + mine];
  slot[token] = position < capacity ? position : -1;
}

}  // namespace

int tiles(int tokens) { return (tokens + kTile - 1) / kTile; }

cudaError_t plan_slots(const int* expert, int tokens, int experts, int capacity, SlotPlan plan, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(tiles(tokens));
  const size_t bytes = static_cast<size_t>(experts) * sizeof(int);
  cudaError_t error = launch(&count_tile, {grid, kTile, bytes, stream}, expert, tokens, experts, plan.tile_offset);
  if (error != cudaSuccess) return error;
  error = launch(&scan_tiles, {static_cast<unsigned>(experts), kTile, 0, stream}, plan.tile_offset, tiles(tokens), experts, plan.expert_count);
  if (error != cudaSuccess) return error;
  return launch(&place_tokens, {grid, kTile, bytes * kWarps, stream}, expert, tokens, experts, capacity, plan.tile_offset, plan.slot);
}

}  // namespace switchyard::cuda
