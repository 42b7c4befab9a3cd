// Device memory for tests, and the check that a call of CUDA succeeded.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace switchyard::emulation {

inline void ok(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error));
}

// Standard normal numbers, the same for the same seed.
inline std::vector<float> drawn(size_t count, unsigned seed) {
  std::mt19937 draw(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(draw);
  return values;
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) { ok(cudaMalloc(reinterpret_cast<void**>(&data_), size * sizeof(T))); }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    ok(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  size_t size() const { return size_; }
  // Done when it returns, whatever the mode of progress.
  void zero() {
    ok(cudaMemset(data_, 0, size_ * sizeof(T)));
    ok(cudaStreamSynchronize(nullptr));
  }

  // Waits for the default stream and those that block with it, not for others.
  std::vector<T> host() const {
    std::vector<T> values(size_);
    ok(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

// A stream that the default stream does not wait for.
class TestStream {
 public:
  TestStream() { ok(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~TestStream() { cudaStreamDestroy(stream_); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace switchyard::emulation
