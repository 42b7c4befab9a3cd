// Owners of what cuBLASLt hands out, and the check of its answers.
#pragma once

#include <cublasLt.h>
#include <cublas_v2.h>

#include <cstdint>
#include <string>

#include "kernels/dtype.h"
#include "src/base/error.h"

namespace switchyard::cuda {

// Throws Error(kFailure) with cuBLAS's own words unless `status` is success. `call`: what was asked for.
inline void require(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  throw Error(ExitCode::kFailure, std::string(call) + " failed: " + cublasGetStatusString(status));
}

inline cudaDataType_t blas_type(Dtype dtype) { return dtype == Dtype::kBF16 ? CUDA_R_16BF : CUDA_R_32F; }

// A handle that kDestroy takes back.
template <class Handle, auto kDestroy>
class BlasOwner {
 public:
  BlasOwner(const BlasOwner&) = delete;
  BlasOwner& operator=(const BlasOwner&) = delete;
  operator Handle() const { return handle_; }

 protected:
  BlasOwner() = default;
  ~BlasOwner() {
    if (handle_ != nullptr) static_cast<void>(kDestroy(handle_));
  }
  Handle handle_ = nullptr;
};

// The library, for the device at hand.
class BlasLt final : public BlasOwner<cublasLtHandle_t, &cublasLtDestroy> {
 public:
  BlasLt() { require(cublasLtCreate(&handle_), "cublasLtCreate"); }
};

// A product of F32 or BF16 that is summed in F32. TF32 is never used: it would round the operands of F32.
class ProductDescription final : public BlasOwner<cublasLtMatmulDesc_t, &cublasLtMatmulDescDestroy> {
 public:
  ProductDescription(cublasOperation_t a, cublasOperation_t b) {
    require(cublasLtMatmulDescCreate(&handle_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    set(CUBLASLT_MATMUL_DESC_TRANSA, static_cast<int32_t>(a));
    set(CUBLASLT_MATMUL_DESC_TRANSB, static_cast<int32_t>(b));
  }

 private:
  void set(cublasLtMatmulDescAttributes_t attribute, int32_t value) {
    require(cublasLtMatmulDescSetAttribute(handle_, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }
};

// A matrix by columns, which are `leading` elements apart.
class MatrixLayout final : public BlasOwner<cublasLtMatrixLayout_t, &cublasLtMatrixLayoutDestroy> {
 public:
  MatrixLayout(Dtype dtype, int64_t rows, int64_t columns, int64_t leading) {
    require(cublasLtMatrixLayoutCreate(&handle_, blas_type(dtype), static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), leading),
            "cublasLtMatrixLayoutCreate");
  }
};

// What is asked of an algorithm: without workspace, which is the library's own default.
class AlgorithmPreference final : public BlasOwner<cublasLtMatmulPreference_t, &cublasLtMatmulPreferenceDestroy> {
 public:
  AlgorithmPreference() { require(cublasLtMatmulPreferenceCreate(&handle_), "cublasLtMatmulPreferenceCreate"); }
  void set(cublasLtMatmulPreferenceAttributes_t attribute, uint32_t value) {
    require(cublasLtMatmulPreferenceSetAttribute(handle_, attribute, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
  }
};

}  // namespace switchyard::cuda
