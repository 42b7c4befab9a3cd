#include "comm/nccl/move_rows.h"

#include <algorithm>

#include "kernels/cuda/support.h"

namespace switchyard::cuda {
namespace {

// As a kernel's argument, so that there is no table in memory that a later call would have to spare.
constexpr size_t kMovesOfALaunch = 128;
struct Moves {
  Move of[kMovesOfALaunch];
};
static_assert(sizeof(Moves) <= 4000, "all arguments of a kernel together are 4 KiB at most");

constexpr int64_t kWordsOfAThread = 4;

// Blocks (x, move).
template <class Word>
__global__ void move_words(Word* to, const Word* from, Moves moves) {
  const int64_t first = moves.of[blockIdx.y].from / static_cast<int64_t>(sizeof(Word));
  const int64_t place = moves.of[blockIdx.y].to / static_cast<int64_t>(sizeof(Word));
  const int64_t words = moves.of[blockIdx.y].bytes / static_cast<int64_t>(sizeof(Word));
  for (int64_t i = thread_number(); i < words; i += threads_of_grid()) to[place + i] = from[first + i];
}

template <class Word>
void launch_move(cudaStream_t stream, void* to, const void* from, std::span<const Move> moves) {
  Moves arguments{};
  std::copy(moves.begin(), moves.end(), arguments.of);
  int64_t longest = 0;
  for (const Move& move : moves) longest = std::max(longest, move.bytes / static_cast<int64_t>(sizeof(Word)));
  dim3 grid = blocks_for(longest, kBlock * kWordsOfAThread);
  grid.y = static_cast<unsigned>(moves.size());
  enqueue(&move_words<Word>, {grid, kBlock, 0, stream}, static_cast<Word*>(to), static_cast<const Word*>(from), arguments);
}

}  // namespace

void move_rows(cudaStream_t stream, void* to, const void* from, std::span<const Move> moves) {
  while (!moves.empty()) {
    const std::span<const Move> some = moves.first(std::min(moves.size(), kMovesOfALaunch));
    moves = moves.subspan(some.size());
    uintptr_t places = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
    for (const Move& move : some) places |= static_cast<uintptr_t>(move.to | move.from | move.bytes);
    check(places % 2 == 0, "move_rows: an odd place or number of bytes");
    if (places % 16 == 0) {
      launch_move<uint4>(stream, to, from, some);
    } else if (places % 4 == 0) {
      launch_move<uint32_t>(stream, to, from, some);
    } else {
      launch_move<uint16_t>(stream, to, from, some);
    }
  }
}

}  // namespace switchyard::cuda
