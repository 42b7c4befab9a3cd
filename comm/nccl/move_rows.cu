#include "comm/nccl/move_rows.h"

#include <algorithm>

#include "kernels/cuda/support.h"

namespace switchyard::cuda {
namespace {

// As a kernel's argument, so that there is no table in memory that a later call would have to spare.
constexpr size_t kPiecesOfALaunch = 128;
struct Pieces {
  Piece piece[kPiecesOfALaunch];
};
static_assert(sizeof(Pieces) <= 4000, "all arguments of a kernel together are 4 KiB at most");

constexpr int64_t kWordsOfAThread = 4;

// Blocks (x, piece).
template <class Word>
__global__ void move(Word* to, const Word* from, Pieces pieces) {
  const int64_t first = pieces.piece[blockIdx.y].from / static_cast<int64_t>(sizeof(Word));
  const int64_t place = pieces.piece[blockIdx.y].to / static_cast<int64_t>(sizeof(Word));
  const int64_t words = pieces.piece[blockIdx.y].bytes / static_cast<int64_t>(sizeof(Word));
  for (int64_t i = thread_number(); i < words; i += threads_of_grid()) to[place + i] = from[first + i];
}

template <class Word>
void launch_move(cudaStream_t stream, void* to, const void* from, std::span<const Piece> pieces) {
  Pieces arguments{};
  std::copy(pieces.begin(), pieces.end(), arguments.piece);
  int64_t longest = 0;
  for (const Piece& piece : pieces) longest = std::max(longest, piece.bytes / static_cast<int64_t>(sizeof(Word)));
  dim3 grid = blocks_for(longest, kBlock * kWordsOfAThread);
  grid.y = static_cast<unsigned>(pieces.size());
  enqueue(&move<Word>, {grid, kBlock, 0, stream}, static_cast<Word*>(to), static_cast<const Word*>(from), arguments);
}

}  // namespace

void move_pieces(cudaStream_t stream, void* to, const void* from, std::span<const Piece> pieces) {
  while (!pieces.empty()) {
    const std::span<const Piece> some = pieces.first(std::min(pieces.size(), kPiecesOfALaunch));
    pieces = pieces.subspan(some.size());
    uintptr_t places = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
    for (const Piece& piece : some) places |= static_cast<uintptr_t>(piece.to | piece.from | piece.bytes);
    check(places % 2 == 0, "move_pieces: an odd place or number of bytes");
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
