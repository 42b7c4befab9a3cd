// What the opaque structures of cublasLt.h hold here.
#pragma once

#include <cublasLt.h>

#include <cstdint>

namespace switchyard::emulation {

struct LtDescription {
  int32_t compute = CUBLAS_COMPUTE_32F;
  int32_t scale = CUDA_R_32F;
  int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  int32_t op_a = CUBLAS_OP_N;
  int32_t op_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int32_t bias_type = -1;  // -1: that of the result
  int32_t multiprocessors = 0;
};

struct LtLayout {
  uint32_t type = CUDA_R_32F;
  int32_t order = CUBLASLT_ORDER_COL;
  uint64_t rows = 0;
  uint64_t columns = 0;
  int64_t leading = 0;
  int64_t batch_step = 0;
  int32_t batches = 1;
};

struct LtPreference {
  uint32_t search = CUBLASLT_SEARCH_BEST_FIT;
  uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // bytes, of a, b, c and d
};

struct LtAlgorithm {
  int32_t id = -1;
  uint32_t tile = 0;
  uint32_t splits = 1;  // of the inner extent, each summed apart
  uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
  uint32_t swizzling = 0;
  uint32_t custom = 0;
  uint32_t stages = 0;
  uint16_t inner_shape = 0;
  uint16_t cluster_shape = 0;
};

// The vendor's structure, seen as ours, which is smaller.
template <class Ours, class Opaque>
Ours& inside(Opaque* opaque) {
  static_assert(sizeof(Ours) <= sizeof(Opaque) && alignof(Ours) <= alignof(Opaque));
  return *reinterpret_cast<Ours*>(opaque);
}
template <class Ours, class Opaque>
const Ours& inside(const Opaque* opaque) {
  static_assert(sizeof(Ours) <= sizeof(Opaque) && alignof(Ours) <= alignof(Opaque));
  return *reinterpret_cast<const Ours*>(opaque);
}

}  // namespace switchyard::emulation
