#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

constexpr int64_t kColumns = 64;  // columns of the table that one task sums

void check_tokens(const Tensor& tokens, int64_t vocabulary) {
  for (int64_t t = 0; t < tokens.elements(); ++t) {
    const int32_t row = tokens.get<int32_t>()[t];
    check(row >= 0 && row < vocabulary, "embed: a token outside the vocabulary");
  }
}

}  // namespace

void CpuBackend::embed(Out x, const Tensor& table, const Tensor& positions, const Tensor& tokens, int64_t sequence, int64_t first_position) {
  const int64_t n = tokens.elements(), width = table.columns();
  check(sequence > 0 && first_position >= 0, "embed: expected a positive sequence length and a position from 0");
  check_activation(table, "embed: expected F32 or BF16");
  check_vector(tokens, Dtype::kI32, n, "embed: expected tokens [T] I32");
  check_dense(table, x.tensor.dtype(), table.rows(), width, "embed: expected a table [N, D] of x's dtype");
  check_dense(x.tensor, table.dtype(), n, width, "embed: expected x [T, D]");
  if (positions.exists()) {
    check_dense(positions, table.dtype(), positions.rows(), width, "embed: expected positions [P, D] of x's dtype");
    check(first_position + std::min(sequence, n) <= positions.rows(), "embed: fewer positions than the sequence needs");
  }
  check_tokens(tokens, table.rows());
  team_.run_pieces(n, rows_per_task(width), [&](int64_t first, int64_t rows, int) {
    for (int64_t t = first; t < first + rows; ++t) {
      const char* from = address(table, tokens.get<int32_t>()[t]);
      if (positions.exists()) {
        loops_.add_rows({address(x.tensor, t), from, address(positions, first_position + t % sequence), table.dtype(), 1, width, Draw{}});
      } else {
        std::memcpy(address(x.tensor, t), from, static_cast<size_t>(width * size_of(table.dtype())));
      }
    }
  });
}

void CpuBackend::embed_backward(Target dtable, Target dpositions, const Tensor& dx, const Tensor& tokens, int64_t sequence) {
  const int64_t n = tokens.elements(), width = dx.columns();
  const bool has_positions = dpositions.tensor.exists();
  check(sequence > 0, "embed_backward: expected a positive sequence length");
  check_activation(dx, "embed_backward: expected F32 or BF16");
  check_vector(tokens, Dtype::kI32, n, "embed_backward: expected tokens [T] I32");
  check_dense(dx, dx.dtype(), n, width, "embed_backward: expected dx [T, D]");
  check_dense(dtable.tensor, Dtype::kF32, dtable.tensor.rows(), width, "embed_backward: expected dtable [N, D], exact");
  if (has_positions) {
    check_dense(dpositions.tensor, Dtype::kF32, dpositions.tensor.rows(), width, "embed_backward: expected dpositions [>= sequence, D], exact");
    check(dpositions.tensor.rows() >= std::min(sequence, n), "embed_backward: fewer positions than the sequence needs");
  }
  check_tokens(tokens, dtable.tensor.rows());
  if (!dtable.add) zero(Out(dtable.tensor));
  if (has_positions && !dpositions.add) zero(Out(dpositions.tensor));
  team_.run_pieces(width, kColumns, [&](int64_t first, int64_t columns, int) {
    for (int64_t t = 0; t < n; ++t) {
      const char* from = address(dx, t, first);
      loops_.convert(dtable.tensor.row<float>(tokens.get<int32_t>()[t]) + first, Dtype::kF32, from, dx.dtype(), columns, true);
      if (has_positions) loops_.convert(dpositions.tensor.row<float>(t % sequence) + first, Dtype::kF32, from, dx.dtype(), columns, true);
    }
  });
}

}  // namespace switchyard::cpu
