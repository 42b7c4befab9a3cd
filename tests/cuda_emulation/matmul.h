// Matrix products as cuBLAS promises them: operands widened to f32, one accumulator in f32, rounded once.
//
// The real library sums in an order that depends on the algorithm, and its heuristics choose the algorithm by the shape,
// rows and batch included. So does this: a program whose bits must not depend on the number of rows has to fix the
// algorithm itself, and fails here if it does not.
#pragma once

#include <cublas_v2.h>

#include <cstdint>

#include "tests/cuda_emulation/runtime.h"

namespace switchyard::emulation {

// Element (i, j) of batch b lies at i * row_step + j * column_step + b * batch_step.
struct Matrix {
  void* data = nullptr;
  cudaDataType type = CUDA_R_32F;  // CUDA_R_32F or CUDA_R_16BF
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_step = 1;
  int64_t column_step = 0;
  int64_t batch_step = 0;
};

// Stored in columns of `leading` elements.
Matrix column_major(const void* data, cudaDataType type, int64_t rows, int64_t columns, int64_t leading, int64_t batch_step = 0);
Matrix transposed(Matrix matrix);
// What the operation makes of a matrix that is stored as m x n, or, transposed, as n x m.
Matrix operand(cublasOperation_t operation, const void* data, cudaDataType type, int64_t m, int64_t n, int64_t leading, int64_t batch_step = 0);

enum class Inputs { kAsTheyAre, kRoundedToTf32 };

// d = activation(alpha a b + beta c + bias). a is [m, k], b is [k, n], c and d are [m, n], bias is [m].
struct Matmul {
  Matrix a, b, c, d;
  int64_t batches = 1;
  float alpha = 1;
  float beta = 0;
  const void* bias = nullptr;
  cudaDataType bias_type = CUDA_R_32F;
  bool relu = false;
  Inputs inputs = Inputs::kAsTheyAre;
  int64_t apart = 0;       // so many terms at a time are summed apart and then added; 0: all
  int64_t first_part = 0;  // of those, the one with which the addition begins; it goes round
};

// Shapes, types, and that every operand lies inside its allocation: the real library would read past the end.
cublasStatus_t check_matmul(const Matmul& product);
// Enqueues it. Returns what check_matmul says, or CUBLAS_STATUS_EXECUTION_FAILED.
cublasStatus_t enqueue_matmul(const Matmul& product, cudaStream_t stream);

inline constexpr int kAlgorithms = 4;
// The algorithm that heuristics put first for this shape, and how many terms it sums apart of `k`.
int best_algorithm(int64_t m, int64_t n);
int64_t terms_apart(int algorithm, int64_t k);

}  // namespace switchyard::emulation
