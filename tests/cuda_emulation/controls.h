// What tests set and ask. All of it may change between any two calls of CUDA; each holds until it is set again.
#pragma once

#include <driver_types.h>

#include <cstddef>
#include <cstdint>

namespace switchyard::emulation {

// The order in which blocks, and threads of a block that could run, take their turns. With kWarpAhead a warp goes as far as
// it can before another one moves, the first warp before the others: so it is in the next round of a loop when they have still
// to read what the last one left. With kWarpAheadReverse the last warp is.
enum class Order : uint8_t { kForward, kReverse, kRandom, kWarpAhead, kWarpAheadReverse };
struct Schedule {
  Order order = Order::kForward;
  uint64_t seed = 1;  // of kRandom
};
void set_schedule(Schedule schedule);

// kImmediate runs the work of streams as soon as it can. kDeferred runs it as late as the program allows, or, with a seed
// other than 0, at arbitrary earlier moments: a missing synchronisation then shows. Waits for all work first.
enum class Progress : uint8_t { kImmediate, kDeferred };
void set_progress(Progress progress, uint64_t seed = 0);

// With isolation, device memory cannot be touched but by device work: host code that follows a device pointer ends with
// SIGSEGV. Costs about a millisecond for each piece of device work.
void set_isolation(bool on);

// The next call that can fail (allocation, copy, launch, device count) does nothing and returns this.
void fail_next_call(cudaError_t error);

// Allocations beyond this many bytes fail with cudaErrorMemoryAllocation. 8 GiB at first.
void set_device_capacity(size_t bytes);
size_t live_device_allocations();
size_t live_device_bytes();

// Counted since the process began.
struct Statistics {
  uint64_t grids = 0;
  uint64_t blocks = 0;
  uint64_t threads = 0;
  uint64_t switches = 0;  // of stacks
  uint64_t barriers = 0;  // completed
  uint64_t warp_operations = 0;
};
Statistics statistics();

}  // namespace switchyard::emulation
