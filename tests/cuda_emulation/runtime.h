// What the emulated CUDA runtime remembers, and its streams and events. The functions of cuda_runtime_api.h are defined on
// this in runtime_device.cpp, runtime_memory.cpp and runtime_streams.cpp; cuBLAS and NCCL enqueue through it too.
//
// All of it is state of the process, because CUDA's functions are given no handle to a device.
#pragma once

#include <driver_types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "tests/cuda_emulation/controls.h"
#include "tests/cuda_emulation/grid.h"
#include "tests/cuda_emulation/random.h"

namespace switchyard::emulation {

// One cudaEventRecord. Whoever waits for an event waits for the record that was its last at that moment.
struct EventRecord {
  CUstream_st* stream = nullptr;  // valid while not done
  bool done = false;
  std::chrono::steady_clock::time_point time;
};

struct StreamWork {
  std::function<bool()> run;             // false: not finished, call again. Empty: nothing to do
  std::shared_ptr<EventRecord> awaited;  // done before run
  std::shared_ptr<EventRecord> records;  // done after run
};

}  // namespace switchyard::emulation

// The handles of driver_types.h, which are ours to define.
struct CUstream_st {
  bool blocking = true;    // ordered with the default stream
  bool destroyed = false;  // by the program; what is pending still runs
  bool stepping = false;
  std::deque<switchyard::emulation::StreamWork> pending;
};

struct CUevent_st {
  bool timed = true;
  std::shared_ptr<switchyard::emulation::EventRecord> last;  // null before the first record
};

namespace switchyard::emulation {

struct Runtime {
  int ordinal = 0;
  cudaError_t last_error = cudaSuccess;
  cudaError_t broken = cudaSuccess;  // after a fault in a kernel every call reports it, until cudaDeviceReset
  std::optional<cudaError_t> injected;
  std::unordered_map<const void*, int> dynamic_shared_limit;  // by kernel, where it was raised

  Progress progress = Progress::kImmediate;
  uint64_t seed = 0;
  Random random{1};
  CUstream_st default_stream;
  std::vector<std::unique_ptr<CUstream_st>> streams;
  std::vector<std::unique_ptr<CUevent_st>> events;
};

// Every function of CUDA passes here. Ends the process with a sentence where a second thread of the host calls.
Runtime& runtime();

// For cudaGetLastError. Returns its argument.
cudaError_t remember(cudaError_t error);

// Takes what fail_next_call left; cudaSuccess if nothing.
cudaError_t take_injected();

// Adds work to the end of a stream, and lets streams make what progress the mode demands. The work runs with access to
// device memory. cudaErrorInvalidResourceHandle for a stream that does not exist.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);

// For work that waits for other processes: called until it returns true, without access to device memory.
cudaError_t enqueue_polled(cudaStream_t stream, std::function<bool()> work);

cudaError_t enqueue(cudaStream_t stream, StreamWork work);

// Checks the shape as CUDA does and enqueues the grid.
cudaError_t launch_grid(const GridShape& shape, std::function<void()> kernel);

// A fault that device work or a library found: as a fault in a kernel, with this sentence.
void break_device(const char* sentence);

// The stream behind a handle; null if there is none.
CUstream_st* find_stream(cudaStream_t handle);

// Runs what is pending; all of it where `until` never holds. While the stream can do nothing, the others make progress:
// it may wait for a rank that waits for them.
void run_stream(CUstream_st& stream, const std::function<bool()>& until = {});
void run_all_streams();

// One piece of the stream's work, or of one that it waits for; failing that, of any other stream. For polling loops, which
// then end.
void make_progress(CUstream_st& stream);

inline constexpr int kDefaultSharedLimit = 48 * 1024;   // bytes of dynamic shared memory a block, without asking for more
inline constexpr int kLargestSharedLimit = 227 * 1024;  // of sm_90
int device_count();

}  // namespace switchyard::emulation
