// Streams and events.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "tests/cuda_emulation/runtime.h"

using namespace switchyard::emulation;

namespace {

bool exists(cudaEvent_t event) {
  const auto& events = runtime().events;
  return std::any_of(events.begin(), events.end(), [event](const auto& owned) { return owned.get() == event; });
}

bool is_done(cudaEvent_t event) { return event->last == nullptr || event->last->done; }

}  // namespace

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (const cudaError_t injected = take_injected(); injected != cudaSuccess) return injected;
  Runtime& state = runtime();
  state.streams.push_back(std::make_unique<CUstream_st>());
  state.streams.back()->blocking = flags != cudaStreamNonBlocking;
  *stream = state.streams.back().get();
  return remember(state.broken);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) { return cudaStreamCreateWithFlags(stream, flags); }

// What is pending still runs, and does not hold the caller.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  CUstream_st* found = find_stream(stream);
  if (found == nullptr || found == &runtime().default_stream) return remember(cudaErrorInvalidResourceHandle);
  found->destroyed = true;
  std::erase_if(runtime().streams, [](const auto& owned) { return owned->destroyed && owned->pending.empty() && !owned->stepping; });
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t injected = take_injected(); injected != cudaSuccess) return injected;
  CUstream_st* found = find_stream(stream);
  if (found == nullptr) return remember(cudaErrorInvalidResourceHandle);
  run_stream(*found);
  return remember(runtime().broken);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  CUstream_st* found = find_stream(stream);
  if (found == nullptr) return remember(cudaErrorInvalidResourceHandle);
  make_progress(*found);
  return found->pending.empty() ? remember(runtime().broken) : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!exists(event)) return remember(cudaErrorInvalidResourceHandle);
  return enqueue(stream, StreamWork{{}, event->last, nullptr});
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return enqueue_polled(stream, [=] {
    function(data);
    return true;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (const cudaError_t injected = take_injected(); injected != cudaSuccess) return injected;
  Runtime& state = runtime();
  state.events.push_back(std::make_unique<CUevent_st>());
  state.events.back()->timed = (flags & cudaEventDisableTiming) == 0;
  *event = state.events.back().get();
  return remember(state.broken);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!exists(event)) return remember(cudaErrorInvalidResourceHandle);
  const auto record = std::make_shared<EventRecord>();
  const cudaError_t error = enqueue(stream, StreamWork{{}, nullptr, record});
  if (error == cudaSuccess) event->last = record;
  return error;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t injected = take_injected(); injected != cudaSuccess) return injected;
  if (!exists(event)) return remember(cudaErrorInvalidResourceHandle);
  if (!is_done(event)) run_stream(*event->last->stream, [event] { return is_done(event); });
  return remember(runtime().broken);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (!exists(event)) return remember(cudaErrorInvalidResourceHandle);
  if (!is_done(event)) make_progress(*event->last->stream);
  return is_done(event) ? remember(runtime().broken) : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t first, cudaEvent_t second) {
  if (!exists(first) || !exists(second) || !first->timed || !second->timed || !first->last || !second->last) {
    return remember(cudaErrorInvalidResourceHandle);
  }
  if (!first->last->done || !second->last->done) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(second->last->time - first->last->time).count();
  return cudaSuccess;
}

// Whoever waits for what it recorded goes on waiting.
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const size_t erased = std::erase_if(runtime().events, [event](const auto& owned) { return owned.get() == event; });
  return erased == 1 ? cudaSuccess : remember(cudaErrorInvalidResourceHandle);
}

}  // extern "C"
