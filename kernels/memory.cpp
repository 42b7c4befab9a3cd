#include "kernels/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "src/base/checked.h"

namespace switchyard {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kArenaBlock = int64_t{4} << 20;

// Zero pages straight from the kernel, on a huge page's boundary. Null if there are none.
void* map_pages(int64_t bytes) {
  const size_t reserved = static_cast<size_t>(bytes + kHugePage);
  void* const pages = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(pages);
  char* const data = reinterpret_cast<char*>(round_up(static_cast<int64_t>(reinterpret_cast<uintptr_t>(begin)), kHugePage));
  if (data > begin) munmap(begin, static_cast<size_t>(data - begin));
  const int64_t behind = begin + reserved - (data + bytes);
  if (behind > 0) munmap(data + bytes, static_cast<size_t>(behind));
  madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a wish
  return data;
}

// What a buffer of `bytes` takes: large ones whole pages.
int64_t taken(int64_t bytes) { return round_up(bytes, bytes >= kHugePage ? 4096 : kAlignment); }

class HostMemory final : public Memory {
 public:
  Device device() const override { return Device::kHost; }

  void* take(int64_t bytes) override {
    checked_add(bytes, 2 * kHugePage);  // rounding does not wrap around
    const int64_t whole = taken(bytes);
    void* data = nullptr;
    if (bytes >= kHugePage) {
      data = map_pages(whole);
    } else {
      data = std::aligned_alloc(kAlignment, static_cast<size_t>(whole));
      if (data != nullptr) std::memset(data, 0, static_cast<size_t>(whole));
    }
    if (data == nullptr) {
      throw Error(ExitCode::kFailure, "expected " + std::to_string(bytes) + " bytes of memory, the system has none left; use a smaller model or micro-batch");
    }
    return data;
  }

  void give_back(void* data, int64_t bytes) noexcept override {
    if (bytes >= kHugePage) {
      munmap(data, static_cast<size_t>(taken(bytes)));
    } else {
      std::free(data);
    }
  }
};

}  // namespace

Memory& host_memory() {
  static HostMemory memory;
  return memory;
}

Buffer::Buffer(int64_t bytes, Memory& memory) : memory_(&memory), bytes_(bytes) {
  check(bytes >= 0, "Buffer: a negative size");
  if (bytes > 0) data_ = memory.take(bytes);
}

Tensor Buffer::tensor(Dtype dtype, Shape shape) const {
  check(shape.elements() * size_of(dtype) <= bytes_, "Buffer::tensor: larger than the buffer");
  return Tensor(data_, dtype, shape, memory_ == nullptr ? Device::kHost : memory_->device());
}

Buffer make_buffer(Dtype dtype, const Shape& shape, Memory& memory) { return Buffer(checked_multiply(shape.elements(), size_of(dtype)), memory); }

Arena::Arena(std::string name, int64_t first_bytes, Memory& memory) : name_(std::move(name)), first_bytes_(first_bytes), memory_(memory) {}

Tensor Arena::take(Dtype dtype, Shape shape) {
  const int64_t bytes = round_up(checked_multiply(shape.elements(), size_of(dtype)), kAlignment);
  while (block_ < blocks_.size() && offset_ + bytes > blocks_[block_].bytes()) {
    ++block_;
    offset_ = 0;
  }
  if (block_ == blocks_.size()) blocks_.emplace_back(std::max({bytes, kArenaBlock, blocks_.empty() ? first_bytes_ : 0}), memory_);
  void* data = static_cast<char*>(blocks_[block_].data()) + offset_;
  offset_ += bytes;
  high_water_ = std::max(high_water_, used());
  return Tensor(data, dtype, shape, memory_.device());
}

int64_t Arena::used() const {
  int64_t total = offset_;
  for (size_t i = 0; i < block_ && i < blocks_.size(); ++i) total += blocks_[i].bytes();
  return total;
}

int64_t Arena::reserved() const {
  int64_t total = 0;
  for (const Buffer& block : blocks_) total += block.bytes();
  return total;
}

}  // namespace switchyard
