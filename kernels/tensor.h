// Tensor: a view of numbers somewhere. It owns nothing and is passed by value.
//
// The last extents are dense. Only the first extent may have a stride of its own (in elements), so that a block of
// columns of a matrix is a tensor too; everything else demands contiguous().
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "kernels/dtype.h"
#include "src/base/error.h"

namespace switchyard {

enum class Device : uint8_t { kHost, kCuda };

inline constexpr int kMaxRank = 4;

// Up to four extents; rank 0 is a scalar with one element.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> extents) {
    check(extents.size() <= kMaxRank, "Shape: more than 4 extents");
    for (int64_t extent : extents) extents_[static_cast<size_t>(rank_++)] = extent;
  }
  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return extents_[static_cast<size_t>(axis)]; }
  // Throws InternalError where 64 bits cannot count them.
  int64_t elements() const {
    int64_t product = 1;
    bool overflow = false;
    for (int axis = 0; axis < rank_; ++axis) overflow |= __builtin_mul_overflow(product, extents_[static_cast<size_t>(axis)], &product);
    check(!overflow, "Shape: more elements than 64 bits count");
    return product;
  }
  bool operator==(const Shape&) const = default;

 private:
  int rank_ = 0;
  std::array<int64_t, kMaxRank> extents_{};
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(void* data, Dtype dtype, Shape shape, Device device = Device::kHost)
      : data_(data), shape_(shape), stride_(shape.rank() == 0 ? 1 : (shape[0] == 0 ? row_elements(shape) : shape.elements() / shape[0])), dtype_(dtype), device_(device) {}

  // False for the tensor that stands for "none".
  bool exists() const { return data_ != nullptr || shape_.rank() > 0; }
  Dtype dtype() const { return dtype_; }
  Device device() const { return device_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t extent(int axis) const { return shape_[axis]; }
  int64_t elements() const { return shape_.elements(); }
  int64_t bytes() const { return elements() * size_of(dtype_); }

  // As a matrix: the first extent, and the product of the others.
  int64_t rows() const { return rank() == 0 ? 1 : shape_[0]; }
  int64_t columns() const { return row_elements(shape_); }
  int64_t row_stride() const { return stride_; }  // elements from one row to the next
  bool contiguous() const { return stride_ == columns() || rows() <= 1; }

  void* data() const { return data_; }
  template <class T>
  T* get() const {
    check(DtypeOf<T>::value == dtype_, "Tensor::get: another dtype than the tensor's");
    return static_cast<T*>(data_);
  }
  template <class T>
  T* row(int64_t index) const {
    return get<T>() + index * stride_;
  }

  // Rows first .. first + count - 1.
  Tensor slice_rows(int64_t first, int64_t count) const {
    check(first >= 0 && count >= 0 && first + count <= rows(), "Tensor::slice_rows: outside the tensor");
    Tensor result = *this;
    result.data_ = at(first * stride_);
    Shape shape{count};
    if (rank() == 2) shape = {count, shape_[1]};
    if (rank() == 3) shape = {count, shape_[1], shape_[2]};
    if (rank() == 4) shape = {count, shape_[1], shape_[2], shape_[3]};
    result.shape_ = shape;
    return result;
  }
  // Columns first .. first + count - 1 of a matrix; keeps the row stride.
  Tensor slice_columns(int64_t first, int64_t count) const {
    check(rank() == 2 && first >= 0 && count >= 0 && first + count <= shape_[1], "Tensor::slice_columns: outside the tensor");
    Tensor result = *this;
    result.data_ = at(first);
    result.shape_ = {shape_[0], count};
    return result;
  }
  // The same elements under another shape.
  Tensor reshape(Shape shape) const {
    check(contiguous() && shape.elements() == elements(), "Tensor::reshape: not contiguous, or another number of elements");
    return Tensor(data_, dtype_, shape, device_);
  }

 private:
  static int64_t row_elements(const Shape& shape) {
    int64_t product = 1;
    for (int axis = 1; axis < shape.rank(); ++axis) product *= shape[axis];
    return product;
  }
  void* at(int64_t element) const { return static_cast<char*>(data_) + element * size_of(dtype_); }

  void* data_ = nullptr;
  Shape shape_;
  int64_t stride_ = 1;
  Dtype dtype_ = Dtype::kF32;
  Device device_ = Device::kHost;
};

// Where a result goes, and whether it replaces what is there or is added to it. An operation that always overwrites
// takes Out, one that always adds takes Accumulate, one that can do both takes Target.
struct Target {
  Tensor tensor;
  bool add = false;
};
struct Out : Target {
  explicit Out(Tensor t) : Target{t, false} {}
};
struct Accumulate : Target {
  explicit Accumulate(Tensor t) : Target{t, true} {}
};

}  // namespace switchyard
