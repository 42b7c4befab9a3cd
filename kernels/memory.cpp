#include "kernels/memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "src/base/checked.h"

namespace switchyard {
namespace {
constexpr int64_t kAlignment = 64;
}

Buffer::Buffer(int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const int64_t rounded = round_up(checked_add(bytes, 0), kAlignment);
  data_ = std::aligned_alloc(kAlignment, static_cast<size_t>(rounded));
  if (data_ == nullptr) {
    throw Error(ExitCode::kFailure, "expected " + std::to_string(bytes) + " bytes of memory, the system has none left; use a smaller model or micro-batch");
  }
  std::memset(data_, 0, static_cast<size_t>(rounded));
}

Buffer::~Buffer() { std::free(data_); }

Tensor Buffer::tensor(Dtype dtype, Shape shape) const {
  check(shape.elements() * size_of(dtype) <= bytes_, "Buffer::tensor: larger than the buffer");
  return Tensor(data_, dtype, shape);
}

Buffer make_buffer(Dtype dtype, const Shape& shape) { return Buffer(checked_multiply(shape.elements(), size_of(dtype))); }

Arena::Arena(std::string name, int64_t block_bytes) : name_(std::move(name)), block_bytes_(block_bytes) {}

Tensor Arena::take(Dtype dtype, Shape shape) {
  const int64_t bytes = round_up(checked_multiply(shape.elements(), size_of(dtype)), kAlignment);
  while (block_ < blocks_.size() && offset_ + bytes > blocks_[block_].bytes()) {
    ++block_;
    offset_ = 0;
  }
  if (block_ == blocks_.size()) blocks_.emplace_back(std::max(bytes, block_bytes_));
  void* data = static_cast<char*>(blocks_[block_].data()) + offset_;
  offset_ += bytes;
  high_water_ = std::max(high_water_, used());
  return Tensor(data, dtype, shape);
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
