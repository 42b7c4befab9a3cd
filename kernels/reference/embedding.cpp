#include <algorithm>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

// Row of the table for token t of the batch.
int64_t table_row(const Tensor& tokens, int64_t t, int64_t vocabulary) {
  const int64_t row = tokens.get<int32_t>()[t];
  check(row >= 0 && row < vocabulary, "embed: a token outside the vocabulary");
  return row;
}

template <class T>
void add_row(const Tensor& table, int64_t row, const T* values) {
  for (int64_t c = 0; c < table.columns(); ++c) table.row<T>(row)[c] += values[c];
}

}  // namespace

void ReferenceBackend::embed(Out x, const Tensor& table, const Tensor& positions, const Tensor& tokens, int64_t sequence, int64_t first_position) {
  const int64_t n = tokens.elements(), width = table.columns();
  check(sequence > 0 && first_position >= 0, "embed: expected a positive sequence length and a position from 0");
  check_vector(tokens, Dtype::kI32, n, "embed: expected tokens [T] I32");
  check_dense(table, x.tensor.dtype(), table.rows(), width, "embed: expected a table [N, D] of x's dtype");
  check_dense(x.tensor, table.dtype(), n, width, "embed: expected x [T, D]");
  if (positions.exists()) {
    check_dense(positions, table.dtype(), positions.rows(), width, "embed: expected positions [P, D] of x's dtype");
    check(first_position + std::min(sequence, n) <= positions.rows(), "embed: fewer positions than the sequence needs");
  }
  with_exact(table.dtype(), [&]<class T>() {
    for (int64_t t = 0; t < n; ++t) {
      const T* token = table.row<T>(table_row(tokens, t, table.rows()));
      const T* position = positions.exists() ? positions.row<T>(first_position + t % sequence) : nullptr;
      for (int64_t c = 0; c < width; ++c) x.tensor.row<T>(t)[c] = position == nullptr ? token[c] : token[c] + position[c];
    }
  });
}

void ReferenceBackend::embed_backward(Target dtable, Target dpositions, const Tensor& dx, const Tensor& tokens, int64_t sequence) {
  const int64_t n = tokens.elements(), width = dx.columns();
  const bool has_positions = dpositions.tensor.exists();
  check(sequence > 0, "embed_backward: expected a positive sequence length");
  check_vector(tokens, Dtype::kI32, n, "embed_backward: expected tokens [T] I32");
  check_dense(dx, dx.dtype(), n, width, "embed_backward: expected dx [T, D]");
  check_dense(dtable.tensor, dx.dtype(), dtable.tensor.rows(), width, "embed_backward: expected dtable [N, D], exact");
  if (has_positions) {
    check_dense(dpositions.tensor, dx.dtype(), dpositions.tensor.rows(), width, "embed_backward: expected dpositions [>= sequence, D], exact");
    check(dpositions.tensor.rows() >= std::min(sequence, n), "embed_backward: fewer positions than the sequence needs");
  }
  if (!dtable.add) zero(Out(dtable.tensor));
  if (has_positions && !dpositions.add) zero(Out(dpositions.tensor));
  with_exact(dx.dtype(), [&]<class T>() {
    for (int64_t t = 0; t < n; ++t) {
      add_row<T>(dtable.tensor, table_row(tokens, t, dtable.tensor.rows()), dx.row<T>(t));
      if (has_positions) add_row<T>(dpositions.tensor, t % sequence, dx.row<T>(t));
    }
  });
}

}  // namespace switchyard::reference
