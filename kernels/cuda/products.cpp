#include <array>
#include <string>

#include "kernels/cuda/matmul.h"

namespace switchyard::cuda {
namespace {

// For which the library's heuristics are asked, and what an algorithm must take as well.
constexpr int64_t kTypicalRows = 2048;
constexpr int kCandidates = 32;

// The operands in the library's eyes, to which rows are columns.
struct Layouts {
  struct Strides {
    int64_t matrix, rows, result;
  };
  // `n`: rows of x, y and dy.
  Layouts(const ProductShape& s, int64_t n, const Strides& strides)
      : matrix(s.dtype, s.kind == ProductKind::kForward ? s.other : s.columns, matrix_rows(s, n), strides.matrix),
        rows(s.dtype, s.other, n, strides.rows),
        result(s.result, s.columns, s.kind == ProductKind::kOuter ? s.other : n, strides.result) {}
  // Rows that follow one another.
  Layouts(const ProductShape& s, int64_t n) : Layouts(s, n, {s.kind == ProductKind::kForward ? s.other : s.columns, s.other, s.columns}) {}

  static int64_t matrix_rows(const ProductShape& s, int64_t n) {
    if (s.kind == ProductKind::kOuter) return n;
    return s.kind == ProductKind::kForward ? s.columns : s.other;
  }

  MatrixLayout matrix, rows, result;
};

Error without_algorithm(const ProductShape& shape) {
  return Error(ExitCode::kFailure, std::string("cuBLASLt has no algorithm that splits no sum for a product of ") + name(shape.dtype) + " with the extents " +
                                       std::to_string(shape.other) + " and " + std::to_string(shape.columns) + "; use another version of it, or the CPU");
}

}  // namespace

void Products::run(const ProductShape& shape, int64_t n, const Rows& matrix, const Rows& rows, const Rows& result, bool add) {
  const Layouts layouts(shape, n, {matrix.stride, rows.stride, result.stride});
  const float one = 1, beta = add ? 1 : 0;
  require(cublasLtMatmul(library_, description(shape.kind), &one, matrix.data, layouts.matrix, rows.data, layouts.rows, &beta, result.data, layouts.result,
                         result.data, layouts.result, &algorithm(shape), nullptr, 0, stream_),
          "cublasLtMatmul");
}

const ProductDescription& Products::description(ProductKind kind) const {
  if (kind == ProductKind::kOuter) return outer_;
  return kind == ProductKind::kForward ? forward_ : backward_;
}

const cublasLtMatmulAlgo_t& Products::algorithm(const ProductShape& shape) {
  const auto known = algorithms_.find(shape);
  return known != algorithms_.end() ? known->second : algorithms_.emplace(shape, chosen(shape)).first->second;
}

// The first that the library recommends for kTypicalRows. It may recommend another one for another number of rows, and is not
// asked.
cublasLtMatmulAlgo_t Products::chosen(const ProductShape& shape) const {
  AlgorithmPreference preference;
  preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_NONE);
  for (const auto operand : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                             CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    preference.set(operand, static_cast<uint32_t>(kAlignment));
  }
  const Layouts typical(shape, kTypicalRows);
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> candidates{};
  int found = 0;
  require(cublasLtMatmulAlgoGetHeuristic(library_, description(shape.kind), typical.matrix, typical.rows, typical.result, typical.result, preference,
                                         kCandidates, candidates.data(), &found),
          "cublasLtMatmulAlgoGetHeuristic");
  for (size_t i = 0; i < static_cast<size_t>(found); ++i) {
    const auto& [algorithm, workspace, state, waves, reserved] = candidates[i];
    if (state == CUBLAS_STATUS_SUCCESS && takes_any_rows(shape, algorithm)) return algorithm;
  }
  throw without_algorithm(shape);
}

bool Products::takes_any_rows(const ProductShape& shape, const cublasLtMatmulAlgo_t& algorithm) const {
  for (const int64_t n : {int64_t{1}, kTypicalRows, kMostRows}) {
    const Layouts layouts(shape, n);
    cublasLtMatmulHeuristicResult_t answer{};
    const cublasStatus_t status =
        cublasLtMatmulAlgoCheck(library_, description(shape.kind), layouts.matrix, layouts.rows, layouts.result, layouts.result, &algorithm, &answer);
    if (status != CUBLAS_STATUS_SUCCESS) return false;
  }
  return true;
}

}  // namespace switchyard::cuda
