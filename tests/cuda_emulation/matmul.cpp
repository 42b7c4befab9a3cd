#include "tests/cuda_emulation/matmul.h"

#include <cuda_bf16.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "tests/cuda_emulation/device_memory.h"

namespace switchyard::emulation {
namespace {

bool supported(cudaDataType type) { return type == CUDA_R_32F || type == CUDA_R_16BF; }

size_t element_bytes(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

float load(const void* data, cudaDataType type, int64_t at) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[at];
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]);
}

void store(void* data, cudaDataType type, int64_t at, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[at] = value;
  } else {
    static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16(value);
  }
}

// To 10 bits of mantissa, to nearest, ties away from zero.
float rounded_to_tf32(float value) { return std::bit_cast<float>((std::bit_cast<uint32_t>(value) + 0x1000u) & ~0x1fffu); }

bool inside(const Matrix& matrix, int64_t batches) {
  const int64_t last = (matrix.rows - 1) * matrix.row_step + (matrix.columns - 1) * matrix.column_step + (batches - 1) * matrix.batch_step;
  return device_bytes_from(matrix.data) >= static_cast<size_t>(last + 1) * element_bytes(matrix.type);
}

// Its elements in f32, column after column.
std::vector<float> widened(const Matrix& matrix, int64_t batch, Inputs inputs) {
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.columns));
  for (int64_t j = 0; j < matrix.columns; ++j) {
    for (int64_t i = 0; i < matrix.rows; ++i) {
      const float value = load(matrix.data, matrix.type, batch * matrix.batch_step + i * matrix.row_step + j * matrix.column_step);
      values[static_cast<size_t>(j * matrix.rows + i)] = inputs == Inputs::kRoundedToTf32 ? rounded_to_tf32(value) : value;
    }
  }
  return values;
}

// sum[i] over l in [first, last) of a[i, l] b[l], in the order of l; a is [m, k] in columns.
void add_terms(const float* a, const float* b, int64_t m, int64_t first, int64_t last, std::vector<float>& sum) {
  for (int64_t l = first; l < last; ++l) {
    const float factor = b[l];
    const float* column = a + l * m;
    for (int64_t i = 0; i < m; ++i) sum[static_cast<size_t>(i)] += column[i] * factor;
  }
}

void finish_column(const Matmul& product, int64_t batch, int64_t j, const std::vector<float>& sum) {
  const Matrix& c = product.c;
  const Matrix& d = product.d;
  for (int64_t i = 0; i < d.rows; ++i) {
    float value = product.alpha * sum[static_cast<size_t>(i)];
    if (product.beta != 0) value += product.beta * load(c.data, c.type, batch * c.batch_step + i * c.row_step + j * c.column_step);
    if (product.bias != nullptr) value += load(product.bias, product.bias_type, i);
    if (product.relu) value = std::max(value, 0.0f);
    store(d.data, d.type, batch * d.batch_step + i * d.row_step + j * d.column_step, value);
  }
}

void run_batch(const Matmul& product, int64_t batch) {
  const int64_t m = product.d.rows, n = product.d.columns, k = product.a.columns;
  const int64_t apart = product.apart > 0 ? product.apart : std::max<int64_t>(k, 1);
  const int64_t parts = (k + apart - 1) / apart;
  const std::vector<float> a = widened(product.a, batch, product.inputs);
  const std::vector<float> b = widened(product.b, batch, product.inputs);
  std::vector<float> sum(static_cast<size_t>(m)), part(static_cast<size_t>(m));
  for (int64_t j = 0; j < n; ++j) {
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (int64_t i = 0; i < parts; ++i) {
      const int64_t first = (product.first_part + i) % parts * apart;
      std::fill(part.begin(), part.end(), 0.0f);
      add_terms(a.data(), b.data() + j * k, m, first, std::min(k, first + apart), part);
      for (size_t row = 0; row < part.size(); ++row) sum[row] += part[row];
    }
    finish_column(product, batch, j, sum);
  }
}

}  // namespace

Matrix column_major(const void* data, cudaDataType type, int64_t rows, int64_t columns, int64_t leading, int64_t batch_step) {
  return {const_cast<void*>(data), type, rows, columns, 1, leading, batch_step};
}

Matrix transposed(Matrix matrix) {
  std::swap(matrix.rows, matrix.columns);
  std::swap(matrix.row_step, matrix.column_step);
  return matrix;
}

Matrix operand(cublasOperation_t operation, const void* data, cudaDataType type, int64_t m, int64_t n, int64_t leading, int64_t batch_step) {
  if (operation == CUBLAS_OP_N) return column_major(data, type, m, n, leading, batch_step);
  return transposed(column_major(data, type, n, m, leading, batch_step));
}

cublasStatus_t check_matmul(const Matmul& product) {
  const auto& [a, b, c, d, batches, alpha, beta, bias, bias_type, relu, inputs, apart, first_part] = product;
  if (a.rows < 0 || a.columns < 0 || d.columns < 0 || batches < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (a.rows != d.rows || a.columns != b.rows || b.columns != d.columns) return CUBLAS_STATUS_INVALID_VALUE;
  for (const Matrix* matrix : {&a, &b, &d}) {
    if (!supported(matrix->type)) return CUBLAS_STATUS_NOT_SUPPORTED;
    // The step between columns (of the stored matrix) must hold one of them.
    const bool by_columns = matrix->row_step == 1;
    const int64_t leading = by_columns ? matrix->column_step : matrix->row_step;
    if (leading < std::max<int64_t>(1, by_columns ? matrix->rows : matrix->columns)) return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (a.type != b.type || !supported(c.type) || !supported(bias_type)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (d.rows == 0 || d.columns == 0 || batches == 0) return CUBLAS_STATUS_SUCCESS;
  if (a.columns > 0 && (!inside(a, batches) || !inside(b, batches))) return CUBLAS_STATUS_INVALID_VALUE;
  if (!inside(d, batches) || (beta != 0 && !inside(c, batches))) return CUBLAS_STATUS_INVALID_VALUE;
  if (bias != nullptr && device_bytes_from(bias) < static_cast<size_t>(d.rows) * element_bytes(bias_type)) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t enqueue_matmul(const Matmul& product, cudaStream_t stream) {
  if (const cublasStatus_t invalid = check_matmul(product); invalid != CUBLAS_STATUS_SUCCESS) return invalid;
  const cudaError_t queued = enqueue(stream, [product] {
    for (int64_t batch = 0; batch < product.batches; ++batch) run_batch(product, batch);
  });
  return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

int best_algorithm(int64_t m, int64_t n) {
  const uint64_t mixed = static_cast<uint64_t>(m) * 0x9e3779b97f4a7c15ull + static_cast<uint64_t>(n) * 0xc2b2ae3d27d4eb4full;
  return static_cast<int>((mixed >> 32) % kAlgorithms);
}

int64_t terms_apart(int algorithm, int64_t k) {
  const int64_t choices[kAlgorithms] = {k, 8, 16, 32};
  return choices[algorithm % kAlgorithms];
}

}  // namespace switchyard::emulation
