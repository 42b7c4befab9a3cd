// Copies within the device's memory, many at once: rows that lie apart, into one run and back.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

namespace switchyard::cuda {

// `bytes` bytes from an offset in one block of memory to an offset in another, all of them even.
struct Move {
  int64_t to = 0;
  int64_t from = 0;
  int64_t bytes = 0;
};

// In the stream. What is written and what is read do not overlap.
void move_rows(cudaStream_t stream, void* to, const void* from, std::span<const Move> moves);

}  // namespace switchyard::cuda
