// cuBLAS: products whose algorithm the library chooses.
#include <cublas_v2.h>

#include <algorithm>

#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/matmul.h"

using namespace switchyard::emulation;

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
};

namespace {

constexpr std::pair<cublasStatus_t, const char*> kNames[] = {
    {CUBLAS_STATUS_SUCCESS, "CUBLAS_STATUS_SUCCESS"},
    {CUBLAS_STATUS_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED"},
    {CUBLAS_STATUS_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED"},
    {CUBLAS_STATUS_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE"},
    {CUBLAS_STATUS_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED"},
    {CUBLAS_STATUS_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR"},
    {CUBLAS_STATUS_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED"},
};

Inputs inputs_of(cublasHandle_t handle, cublasComputeType_t compute, cudaDataType type) {
  const bool tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32 || (handle->math & 0xf) == CUBLAS_TF32_TENSOR_OP_MATH;
  return tf32 && type == CUDA_R_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC ? Inputs::kRoundedToTf32 : Inputs::kAsTheyAre;
}

bool supported(cublasComputeType_t compute) {
  return compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC || compute == CUBLAS_COMPUTE_32F_FAST_TF32;
}

cublasStatus_t check_handle(cublasHandle_t handle, cublasComputeType_t compute) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  return supported(compute) && handle->pointer_mode == CUBLAS_POINTER_MODE_HOST ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t multiply(cublasHandle_t handle, Matmul product, cublasComputeType_t compute) {
  product.c = product.d;
  product.inputs = inputs_of(handle, compute, product.a.type);
  product.apart = terms_apart(best_algorithm(product.d.rows, product.d.columns), product.a.columns);
  return enqueue_matmul(product, handle->stream);
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  if (take_injected() != cudaSuccess || device_count() == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* version) {
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  if (find_stream(stream) == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void* workspace, size_t bytes) {
  return bytes == 0 || device_bytes_from(workspace) >= bytes ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  handle->pointer_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasGetStatusName(cublasStatus_t status) {
  const auto found = std::find_if(std::begin(kNames), std::end(kNames), [status](const auto& entry) { return entry.first == status; });
  return found != std::end(kNames) ? found->second : "a status that the emulation does not name";
}

const char* cublasGetStatusString(cublasStatus_t status) { return cublasGetStatusName(status); }

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k, const void* alpha, const void* a,
                            cudaDataType a_type, int lda, const void* b, cudaDataType b_type, int ldb, const void* beta, void* c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c, c_type, ldc, 0, 1, compute, algorithm);
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k, const void* alpha,
                                          const void* a, cudaDataType a_type, int lda, long long a_step, const void* b, cudaDataType b_type, int ldb,
                                          long long b_step, const void* beta, void* c, cudaDataType c_type, int ldc, long long c_step, int batches,
                                          cublasComputeType_t compute, cublasGemmAlgo_t) {
  if (const cublasStatus_t invalid = check_handle(handle, compute); invalid != CUBLAS_STATUS_SUCCESS) return invalid;
  Matmul product;
  product.a = operand(op_a, a, a_type, m, k, lda, a_step);
  product.b = operand(op_b, b, b_type, k, n, ldb, b_step);
  product.d = column_major(c, c_type, m, n, ldc, c_step);
  product.batches = batches;
  product.alpha = *static_cast<const float*>(alpha);
  product.beta = *static_cast<const float*>(beta);
  return multiply(handle, product, compute);
}

// The sizes are arrays of the host, the addresses arrays of the device; scalars are one for each group.
cublasStatus_t cublasGemmGroupedBatchedEx(cublasHandle_t handle, const cublasOperation_t op_a[], const cublasOperation_t op_b[], const int m[], const int n[],
                                          const int k[], const void* alpha, const void* const a[], cudaDataType a_type, const int lda[], const void* const b[],
                                          cudaDataType b_type, const int ldb[], const void* beta, void* const c[], cudaDataType c_type, const int ldc[],
                                          int groups, const int group_size[], cublasComputeType_t compute) {
  if (const cublasStatus_t invalid = check_handle(handle, compute); invalid != CUBLAS_STATUS_SUCCESS) return invalid;
  size_t problems = 0;
  for (int g = 0; g < groups; ++g) problems += static_cast<size_t>(group_size[g]);
  const size_t bytes = problems * sizeof(void*);
  if (bytes > 0 && (device_bytes_from(a) < bytes || device_bytes_from(b) < bytes || device_bytes_from(c) < bytes)) return CUBLAS_STATUS_INVALID_VALUE;
  run_stream(*find_stream(handle->stream));  // the addresses may be written by earlier work
  size_t problem = 0;
  for (int g = 0; g < groups; ++g) {
    for (int i = 0; i < group_size[g]; ++i, ++problem) {
      Matmul product;
      {
        const DeviceAccess access;
        product.a = operand(op_a[g], a[problem], a_type, m[g], k[g], lda[g]);
        product.b = operand(op_b[g], b[problem], b_type, k[g], n[g], ldb[g]);
        product.d = column_major(c[problem], c_type, m[g], n[g], ldc[g]);
      }
      product.alpha = static_cast<const float*>(alpha)[g];
      product.beta = static_cast<const float*>(beta)[g];
      if (const cublasStatus_t status = multiply(handle, product, compute); status != CUBLAS_STATUS_SUCCESS) return status;
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
