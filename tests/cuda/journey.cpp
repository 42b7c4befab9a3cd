#include "tests/cuda/journey.h"

#include <algorithm>
#include <utility>

namespace switchyard {
namespace {

char* begin_of(const Tensor& x) { return static_cast<char*>(x.data()); }

// Up to the last element of the last row.
int64_t extent_in_bytes(const Tensor& x) {
  if (!x.exists() || x.elements() == 0) return 0;
  return ((x.rows() - 1) * x.row_stride() + x.columns()) * size_of(x.dtype());
}

// x's shape and strides at another place.
Tensor moved(const Tensor& x, void* data, Device device) {
  if (x.contiguous()) return Tensor(data, x.dtype(), x.shape(), device);
  return Tensor(data, x.dtype(), {x.rows(), x.row_stride()}, device).slice_columns(0, x.columns());
}

}  // namespace

// Every dtype has an even number of bytes.
Tensor Journey::Region::bytes(const Memory& memory) const { return Tensor(copy(), Dtype::kBF16, {(end - begin) / 2}, memory.device()); }

Journey::Journey(Backend& backend, const std::vector<Tensor>& operands) : backend_(backend) {
  std::vector<std::pair<char*, char*>> ranges;
  for (const Tensor& x : operands) {
    if (extent_in_bytes(x) > 0) ranges.emplace_back(begin_of(x), begin_of(x) + extent_in_bytes(x));
  }
  std::sort(ranges.begin(), ranges.end());
  for (const auto& [begin, end] : ranges) {
    if (!regions_.empty() && begin < regions_.back().end) {
      regions_.back().end = std::max(regions_.back().end, end);
    } else {
      regions_.push_back({begin, end, Buffer()});
    }
  }
  Memory& memory = backend_.memory();
  for (Region& region : regions_) {
    region.there = Buffer(region.end - region.begin + static_cast<int64_t>(reinterpret_cast<uintptr_t>(region.begin) % 64), memory);
    backend_.copy_from_host(region.begin, Out(region.bytes(memory)));
  }
}

Tensor Journey::operator()(const Tensor& operand) const {
  if (!operand.exists()) return operand;
  const Device device = backend_.memory().device();
  if (extent_in_bytes(operand) == 0) return moved(operand, nullptr, device);
  for (const Region& region : regions_) {
    if (begin_of(operand) >= region.begin && begin_of(operand) < region.end) return moved(operand, region.copy() + (begin_of(operand) - region.begin), device);
  }
  throw InternalError("Journey: a tensor that is not one of the operands");
}

void Journey::home() const {
  for (const Region& region : regions_) backend_.copy_to_host(region.bytes(backend_.memory()), region.begin);
}

}  // namespace switchyard
