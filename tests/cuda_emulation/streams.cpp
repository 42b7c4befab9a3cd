#include <algorithm>
#include <thread>
#include <utility>

#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/runtime.h"

namespace switchyard::emulation {
namespace {

std::vector<CUstream_st*> all_streams() {
  std::vector<CUstream_st*> all{&runtime().default_stream};
  for (const auto& stream : runtime().streams) all.push_back(stream.get());
  return all;
}

// Runs the first piece of pending work, or a piece of what it waits for. False where nothing can be done yet.
bool step(CUstream_st& stream) {
  if (stream.stepping || stream.pending.empty()) return false;
  stream.stepping = true;
  StreamWork& work = stream.pending.front();
  bool progress = true;
  if (work.awaited && !work.awaited->done) {
    progress = step(*work.awaited->stream);
  } else {
    const bool broken = runtime().broken != cudaSuccess;
    progress = broken || !work.run || work.run();
    if (progress) {
      if (work.records) {
        work.records->done = true;
        work.records->time = std::chrono::steady_clock::now();
      }
      stream.pending.pop_front();
    }
  }
  stream.stepping = false;
  return progress;
}

// The legacy default stream waits for all blocking streams, and they for it.
void order_with_default_stream(CUstream_st& stream) {
  CUstream_st& legacy = runtime().default_stream;
  if (&stream != &legacy) {
    if (stream.blocking) run_stream(legacy);
    return;
  }
  for (CUstream_st* other : all_streams()) {
    if (other != &legacy && other->blocking) run_stream(*other);
  }
}

void progress_after_enqueue(CUstream_st& stream) {
  Runtime& state = runtime();
  if (state.progress == Progress::kImmediate) {
    while (step(stream)) {
    }
  } else if (state.seed != 0) {
    const std::vector<CUstream_st*> streams = all_streams();
    for (uint64_t steps = state.random.below(4); steps > 0; --steps) step(*streams[state.random.below(streams.size())]);
  }
}

cudaError_t check_shape(const GridShape& shape) {
  const uint64_t threads = uint64_t{shape.block.x} * shape.block.y * shape.block.z;
  if (threads == 0 || threads > 1024 || shape.block.z > 64) return cudaErrorInvalidConfiguration;
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return cudaErrorInvalidConfiguration;
  if (shape.grid.x > 0x7fffffffu || shape.grid.y > 65535 || shape.grid.z > 65535) return cudaErrorInvalidConfiguration;
  const auto raised = runtime().dynamic_shared_limit.find(shape.kernel);
  const int limit = raised == runtime().dynamic_shared_limit.end() ? kDefaultSharedLimit : raised->second;
  return shape.shared_bytes > static_cast<size_t>(limit) ? cudaErrorInvalidValue : cudaSuccess;
}

}  // namespace

CUstream_st* find_stream(cudaStream_t handle) {
  Runtime& state = runtime();
  if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread) return &state.default_stream;
  const auto same = [handle](const auto& owned) { return owned.get() == handle && !owned->destroyed; };
  return std::any_of(state.streams.begin(), state.streams.end(), same) ? handle : nullptr;
}

void make_progress(CUstream_st& stream) {
  if (step(stream)) return;
  for (CUstream_st* other : all_streams()) {
    if (other != &stream) step(*other);
  }
  std::this_thread::yield();
}

void run_stream(CUstream_st& stream, const std::function<bool()>& until) {
  while (!stream.pending.empty() && !(until && until())) make_progress(stream);
}

void run_all_streams() {
  for (CUstream_st* stream : all_streams()) run_stream(*stream);
  std::erase_if(runtime().streams, [](const auto& owned) { return owned->destroyed && owned->pending.empty(); });
}

cudaError_t enqueue(cudaStream_t stream, StreamWork work) {
  Runtime& state = runtime();
  if (const cudaError_t injected = take_injected(); injected != cudaSuccess) return injected;
  if (state.broken != cudaSuccess) return remember(state.broken);
  CUstream_st* found = find_stream(stream);
  if (found == nullptr) return remember(cudaErrorInvalidResourceHandle);
  order_with_default_stream(*found);
  if (work.records) work.records->stream = found;
  found->pending.push_back(std::move(work));
  progress_after_enqueue(*found);
  return remember(state.broken);
}

cudaError_t enqueue(cudaStream_t stream, std::function<void()> work) {
  const auto run = [work = std::move(work)] {
    const DeviceAccess access;
    work();
    return true;
  };
  return enqueue(stream, StreamWork{run, nullptr, nullptr});
}

cudaError_t enqueue_polled(cudaStream_t stream, std::function<bool()> work) { return enqueue(stream, StreamWork{std::move(work), nullptr, nullptr}); }

cudaError_t launch_grid(const GridShape& shape, std::function<void()> kernel) {
  if (const cudaError_t invalid = check_shape(shape); invalid != cudaSuccess) return remember(invalid);
  return enqueue(shape.stream, [shape, run = std::move(kernel)] {
    if (!run_grid(shape, run)) runtime().broken = cudaErrorLaunchFailure;
  });
}

void break_device(const char* sentence) {
  set_last_fault(sentence);
  runtime().broken = cudaErrorLaunchFailure;
}

void set_progress(Progress progress, uint64_t seed) {
  run_all_streams();
  runtime().progress = progress;
  runtime().seed = seed;
  runtime().random = Random(seed);
}

}  // namespace switchyard::emulation
