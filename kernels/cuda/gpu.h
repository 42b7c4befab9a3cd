// Gpu: one device as a rank uses it. Its memory, the stream on which it computes and the one on which it sends.
//
// Work on one stream runs in order. Between the two, an event is recorded on the one and waited for on the other; nothing
// runs on CUDA's default stream.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/memory.h"
#include "src/base/error.h"

namespace switchyard::cuda {

// Throws Error(kFailure) with CUDA's own words unless `status` is success. `call`: what was asked for, such as "cudaMalloc".
void require(cudaError_t status, const char* call);

// A stream that the default stream does not wait for.
class Stream {
 public:
  Stream() { require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// A point in a stream's order of work.
class Mark {
 public:
  Mark() { require(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags"); }
  ~Mark() { static_cast<void>(cudaEventDestroy(event_)); }
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;

  void record(cudaStream_t stream) { require(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  // What is put into `stream` from now on starts after the point last recorded.
  void hold_back(cudaStream_t stream) const { require(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent"); }
  void wait() const { require(cudaEventSynchronize(event_), "cudaEventSynchronize"); }
  // Whether the stream is past the point last recorded.
  bool reached() const;

 private:
  cudaEvent_t event_ = nullptr;
};

// The device's own memory, zero-filled when take() returns.
class DeviceMemory final : public Memory {
 public:
  explicit DeviceMemory(cudaStream_t stream) : stream_(stream) {}
  Device device() const override { return Device::kCuda; }
  void* take(int64_t bytes) override;
  void give_back(void* data, int64_t bytes) noexcept override;

 private:
  cudaStream_t stream_;  // on which it is zeroed
};

// Host memory that the device copies to and from while the host goes on.
class PinnedMemory final : public Memory {
 public:
  Device device() const override { return Device::kHost; }
  void* take(int64_t bytes) override;
  void give_back(void* data, int64_t bytes) noexcept override;
};

// How long the host has waited since this was made, asked all the while. Time in which the process was stopped does not count.
class Patience {
 public:
  double seconds() {
    const Clock::time_point now = Clock::now();
    waited_ += std::min<Clock::duration>(now - last_, kLongest);
    last_ = now;
    return std::chrono::duration<double>(waited_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kLongest{1};  // from one question to the next, while the process runs

  Clock::time_point last_ = Clock::now();
  Clock::duration waited_{};
};

// Looks after the device while the host waits for it: work in its streams may wait for other ranks, which may never come.
class Watch {
 public:
  virtual ~Watch() = default;
  // What is wrong, if anything. `seconds`: how long the host has waited.
  virtual std::optional<Error> look(double seconds) = 0;
  // Ends whatever waits for other ranks. Nothing is sent or received from then on.
  virtual void abandon() noexcept = 0;
};

class Gpu {
 public:
  // Device `number` becomes that of the calling thread, which must be the only one to use this. Throws Error(kFailure).
  explicit Gpu(int number) : number_(chosen(number)), memory_(compute_) {}

  int number() const { return number_; }
  cudaStream_t compute() const { return compute_; }
  cudaStream_t transfers() const { return transfers_; }
  Memory& memory() { return memory_; }
  Memory& pinned() { return pinned_; }

  // Waits until a stream is at its end. Throws what a watch finds, after all of them have abandoned.
  void finish(cudaStream_t stream);
  void finish() { finish(compute_); }
  void add(Watch& watch) { watches_.push_back(&watch); }
  void remove(Watch& watch) { std::erase(watches_, &watch); }
  void abandon() noexcept {
    for (Watch* watch : watches_) watch->abandon();
  }

 private:
  static int chosen(int number) {
    require(cudaSetDevice(number), "cudaSetDevice");
    return number;
  }

  int number_;
  Stream compute_, transfers_;
  DeviceMemory memory_;
  PinnedMemory pinned_;
  Mark end_;  // of what finish() waits for
  std::vector<Watch*> watches_;
};

// Memory that only grows, for what lives within one operation. Pieces of consecutive operations of one stream may be the same.
class Workspace {
 public:
  explicit Workspace(Memory& memory) : memory_(memory) {}
  // At least `bytes`, aligned to 64; any content. Valid until the next call.
  void* at_least(int64_t bytes) {
    if (bytes > buffer_.bytes()) {
      buffer_ = Buffer();  // frees first
      buffer_ = Buffer(bytes + bytes / 2, memory_);
    }
    return buffer_.data();
  }

 private:
  Memory& memory_;
  Buffer buffer_;
};

}  // namespace switchyard::cuda
