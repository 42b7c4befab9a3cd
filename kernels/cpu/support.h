// Checks at the door of every operation, and the plain structs that loops take.
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/loops.h"

namespace switchyard::cpu {

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

inline void check_activation(const Tensor& x, const char* sentence) { check(x.dtype() == Dtype::kF32 || x.dtype() == Dtype::kBF16, sentence); }

// Element `i` of row `row` as an address, whatever the dtype.
inline char* address(const Tensor& x, int64_t row, int64_t i = 0) {
  return x.data() == nullptr ? nullptr : static_cast<char*>(x.data()) + (row * x.row_stride() + i) * size_of(x.dtype());
}

inline Draw draw_of(const Random& random) {
  Draw draw;
  draw.key = random.key;
  draw.first_index = random.first_index;
  draw.step = random.step;
  return draw;
}

// The draws of rows from first_row on.
inline Draw draw_of(const Dropout& dropout, int64_t first_row) {
  Draw draw = draw_of(dropout.random);
  draw.active = dropout.rate > 0;
  draw.first_index += static_cast<uint64_t>(first_row);
  draw.threshold = drop_threshold(dropout.rate);
  draw.scale = static_cast<float>(1.0 / (1.0 - dropout.rate));
  return draw;
}

// Rows of the next piece, of `left` that are left, in pieces of `whole` rows: the last ones are a number of quarters and a
// rest. Every size of a piece is a product that the matrix library must compile, so there should be few of them.
inline int64_t next_rows(int64_t left, int64_t whole) {
  if (left >= whole) return whole;
  const int64_t quarter = whole / 4;
  return left >= quarter ? left / quarter * quarter : left;
}

// Rows that one task works on: about 16 Ki elements, by the shape of a row alone.
inline int64_t rows_per_task(int64_t columns) { return columns >= 16 * 1024 ? 1 : 16 * 1024 / (columns < 16 ? 16 : columns); }

}  // namespace switchyard::cpu
