// What every file of the reference needs: typed dispatch at the door, checks of shapes, and dropout's factor.
#pragma once

#include "kernels/backend.h"

namespace switchyard::reference {

// Calls f.operator()<T>() with the C++ type of a float dtype that the reference computes in.
template <class F>
void with_exact(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::kF64: f.template operator()<double>(); return;
    case Dtype::kF32: f.template operator()<float>(); return;
    default: throw InternalError("reference: expected F64 or F32, found " + std::string(name(dtype)));
  }
}

// The same for what convert and the sums read: BF16 too.
template <class F>
void with_float(Dtype dtype, F f) {
  if (dtype == Dtype::kBF16) {
    f.template operator()<BFloat16>();
  } else {
    with_exact(dtype, f);
  }
}

inline void check_matrix(const Tensor& x, Dtype dtype, int64_t rows, int64_t columns, const char* sentence) {
  check(x.dtype() == dtype && x.rows() == rows && x.columns() == columns, sentence);
}

// A matrix or vector whose rows follow one another.
inline void check_dense(const Tensor& x, Dtype dtype, int64_t rows, int64_t columns, const char* sentence) {
  check_matrix(x, dtype, rows, columns, sentence);
  check(x.contiguous(), sentence);
}

inline void check_vector(const Tensor& x, Dtype dtype, int64_t elements, const char* sentence) {
  check(x.dtype() == dtype && x.elements() == elements && x.contiguous(), sentence);
}

template <class T>
void store(T& place, T value, bool add) {
  place = add ? place + value : value;
}

// What an element is multiplied by: 0 where it is dropped, 1 / (1 - rate) where it is kept.
template <class T>
T dropout_factor(const Dropout& dropout, int64_t row, int64_t column) {
  if (dropout.rate <= 0) return T{1};
  const uint32_t word = dropout.random.word(static_cast<uint64_t>(row), static_cast<uint32_t>(column));
  return word < drop_threshold(dropout.rate) ? T{0} : static_cast<T>(1.0 / (1.0 - dropout.rate));
}

}  // namespace switchyard::reference
