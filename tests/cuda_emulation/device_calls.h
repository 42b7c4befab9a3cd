// What a kernel calls: its place in the grid, barriers, operations of a warp, shared memory. Spelled for kernel authors in
// device_language.h and device/seam.h.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>

namespace switchyard::emulation {

inline constexpr unsigned kWarpSize = 32;

// threadIdx, blockIdx, blockDim and gridDim of one thread.
struct ThreadView {
  uint3 thread;
  uint3 block;
  dim3 block_extent;
  dim3 grid_extent;
};

// The CUDA thread that runs now; null outside kernels. A variable because kernels read it all the time.
extern ThreadView* this_thread;

// Where in a kernel a barrier or warp operation stands.
struct CallSite {
  const char* file = "";
  unsigned line = 0;
  static constexpr CallSite here(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) { return {file, line}; }
  bool operator==(const CallSite& other) const { return line == other.line && file == other.file; }
};

enum class BarrierVote : uint8_t { kNone, kCount, kAll, kAny };

// Waits for all threads of the block. Returns what the vote over `predicate` says; 0 without one. A fault where a thread
// of the block has left the kernel, or others wait at another call.
int block_barrier(BarrierVote vote, int predicate, CallSite where);

enum class WarpOperation : uint8_t { kSync, kShuffleIndex, kShuffleUp, kShuffleDown, kShuffleXor, kBallot, kMatchAny };

// Waits for the lanes of the mask and returns this lane's result: the bits of another lane's operand (shuffles), or a
// mask of lanes. `argument` is a shuffle's lane, distance or lane mask, `width` its segment. A fault where CUDA leaves the
// result undefined: a lane of the mask that left, does not exist or stands elsewhere, a source outside the mask.
uint64_t warp_operation(WarpOperation operation, uint32_t mask, uint64_t operand, int argument, int width, CallSite where);

// One __shared__ variable: the same object for all blocks, each of which has an instance.
struct SharedVariable {
  size_t size = 0;
  size_t alignment = 0;
  uint64_t block = 0;  // whose instance `address` is, by its serial number
  void* address = nullptr;
};
void* shared_variable(SharedVariable& variable);
void* dynamic_shared_memory();

}  // namespace switchyard::emulation
