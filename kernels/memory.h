// Owners of memory. Buffer owns one block; Arena hands out pieces of blocks and takes them back all at once.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tensor.h"

namespace switchyard {

// Where bytes are: in the host's memory, or in a device's. Outlives what is taken from it.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual Device device() const = 0;
  // `bytes` > 0, zero-filled, aligned to 64. Throws Error(kFailure) naming the size if there are none.
  virtual void* take(int64_t bytes) = 0;
  virtual void give_back(void* data, int64_t bytes) noexcept = 0;
};

// Pages that nobody writes to take no memory; large pieces ask for huge pages.
Memory& host_memory();

// One block of memory, zero-filled, move-only.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes, Memory& memory = host_memory());
  Buffer(Buffer&& other) noexcept : memory_(other.memory_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) memory_->give_back(data_, bytes_);
  }

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // The first elements of the buffer as a tensor. Throws InternalError if it is too small.
  Tensor tensor(Dtype dtype, Shape shape) const;

 private:
  Memory* memory_ = nullptr;  // of what is not empty
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// A buffer made for one tensor.
Buffer make_buffer(Dtype dtype, const Shape& shape, Memory& memory = host_memory());

// Bump allocator. Pieces live until the Mark that was open when they were taken closes. When a block is full the arena
// takes another one and keeps it, so that after the first step nothing is allocated.
class Arena {
 public:
  // The first block has `first_bytes` where that is more.
  explicit Arena(std::string name, int64_t first_bytes = 0, Memory& memory = host_memory());

  // Uninitialised, aligned to 64 bytes.
  Tensor take(Dtype dtype, Shape shape);

  int64_t used() const;  // bytes in use now
  int64_t high_water() const { return high_water_; }
  int64_t reserved() const;  // bytes held
  const std::string& name() const { return name_; }

  // Gives back, when it goes out of scope, all that was taken since it was made.
  class Mark {
   public:
    explicit Mark(Arena& arena) : arena_(arena), block_(arena.block_), offset_(arena.offset_) {}
    ~Mark() {
      arena_.block_ = block_;
      arena_.offset_ = offset_;
    }
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;

   private:
    Arena& arena_;
    size_t block_;
    int64_t offset_;
  };

 private:
  std::string name_;
  int64_t first_bytes_;
  Memory& memory_;
  std::vector<Buffer> blocks_;
  size_t block_ = 0;    // the block that is being filled
  int64_t offset_ = 0;  // its first free byte
  int64_t high_water_ = 0;
};

}  // namespace switchyard
