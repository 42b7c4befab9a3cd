// The state of the grid that runs: one block, its threads, warps and barrier. What device code calls (barrier.cpp, warp.cpp,
// shared_memory.cpp) and what runs blocks (grid.cpp) meet here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/device_calls.h"
#include "tests/cuda_emulation/fiber.h"
#include "tests/cuda_emulation/grid.h"
#include "tests/cuda_emulation/random.h"

namespace switchyard::emulation {

struct Thread {
  ThreadView view{};
  unsigned linear = 0;     // its number in the block
  bool left = false;       // the kernel
  Fiber* fiber = nullptr;  // null before its first turn and after its last
  uint64_t warp_result = 0;
};

// Lanes that wait for one another in one warp operation.
struct WarpGroup {
  WarpOperation operation;
  uint32_t mask;
  uint32_t arrived;
  int width;
  CallSite where;
  uint64_t operand[kWarpSize];
  int argument[kWarpSize];
};

struct Warp {
  std::vector<WarpGroup> groups;  // with disjoint masks
  uint32_t left = 0;              // lanes that left the kernel
  uint32_t existing = 0;
  char tokens[2] = {};  // for ThreadSanitizer; two, so that a lane's next release cannot join the last one
  unsigned generation = 0;
};

struct Barrier {
  size_t arrived = 0;
  CallSite where;
  int votes = 0;
  int result = 0;
  unsigned generation = 0;
  char tokens[2] = {};
};

// The threads that could run, by number, in the order in which they became ready.
class ReadyRing {
 public:
  void reset(size_t threads);
  void push(unsigned thread);
  unsigned front() const { return ring_[head_]; }
  unsigned pop();
  // Any of them, drawn with `random`.
  unsigned pop(Random& random);
  // One of the first warp that has any, or of the last.
  unsigned pop_of_warp(bool last);
  size_t size() const { return size_; }

 private:
  std::vector<unsigned> ring_;
  size_t head_ = 0;
  size_t size_ = 0;
};

struct Engine {
  Schedule schedule;
  Random random{1};
  Statistics statistics;

  // The grid.
  const std::function<void()>* kernel = nullptr;
  const GridShape* shape = nullptr;
  bool faulted = false;
  char fault_text[512] = {};

  // The block.
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barrier;
  ReadyRing ready;
  size_t alive = 0;  // threads that have not left the kernel
  Thread* current = nullptr;
  uint64_t block_serial = 0;

  std::vector<std::unique_ptr<Fiber>> fibers;
  std::deque<Fiber*> idle_fibers;

  // Tokens for ThreadSanitizer.
  char block_start = 0;  // the host before the threads of a block
  char grid_end = 0;     // the threads before the host
  char abandoned = 0;    // threads given up in mid-kernel before the host
};

Engine& engine();

// Suspends the CUDA thread that runs, inside an Unwatched scope, until another one pushed it to `ready` and its turn came.
void wait_for_others();

// Gives the block up with a sentence, formatted without heap memory, since nothing on the fibers' stacks is unwound.
[[noreturn, gnu::format(printf, 1, 2)]] void fault(const char* format, ...);

struct Text {
  char characters[160];
};
Text describe(CallSite where);
Text describe(const Thread& thread);

// Shared memory as a new block finds it: filled with NaN, and forgotten by ThreadSanitizer.
void begin_block_memory();

}  // namespace switchyard::emulation
