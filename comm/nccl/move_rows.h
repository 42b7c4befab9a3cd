// Copies of many pieces of device memory at once: rows that lie apart, into one run and back.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

namespace switchyard::cuda {

// `bytes` bytes from an offset in one block of memory to an offset in another, all of them even.
struct Piece {
  int64_t to = 0;
  int64_t from = 0;
  int64_t bytes = 0;
};

// In the stream. What is written and what is read do not overlap.
void move_pieces(cudaStream_t stream, void* to, const void* from, std::span<const Piece> pieces);

}  // namespace switchyard::cuda
