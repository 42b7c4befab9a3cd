// cublasLt: making, setting and asking descriptors.
#include <cublasLt.h>

#include <new>

#include "tests/cuda_emulation/attributes.h"
#include "tests/cuda_emulation/lt_descriptors.h"

using namespace switchyard::emulation;

namespace {

constexpr Attribute kDescription[] = {
    {CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, offsetof(LtDescription, compute), 4},
    {CUBLASLT_MATMUL_DESC_SCALE_TYPE, offsetof(LtDescription, scale), 4},
    {CUBLASLT_MATMUL_DESC_POINTER_MODE, offsetof(LtDescription, pointer_mode), 4},
    {CUBLASLT_MATMUL_DESC_TRANSA, offsetof(LtDescription, op_a), 4},
    {CUBLASLT_MATMUL_DESC_TRANSB, offsetof(LtDescription, op_b), 4},
    {CUBLASLT_MATMUL_DESC_EPILOGUE, offsetof(LtDescription, epilogue), 4},
    {CUBLASLT_MATMUL_DESC_BIAS_POINTER, offsetof(LtDescription, bias), 8},
    {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, offsetof(LtDescription, bias_type), 4},
    {CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, offsetof(LtDescription, multiprocessors), 4},
};

constexpr Attribute kLayout[] = {
    {CUBLASLT_MATRIX_LAYOUT_TYPE, offsetof(LtLayout, type), 4},
    {CUBLASLT_MATRIX_LAYOUT_ORDER, offsetof(LtLayout, order), 4},
    {CUBLASLT_MATRIX_LAYOUT_ROWS, offsetof(LtLayout, rows), 8},
    {CUBLASLT_MATRIX_LAYOUT_COLS, offsetof(LtLayout, columns), 8},
    {CUBLASLT_MATRIX_LAYOUT_LD, offsetof(LtLayout, leading), 8},
    {CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, offsetof(LtLayout, batches), 4},
    {CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, offsetof(LtLayout, batch_step), 8},
};

constexpr Attribute kPreference[] = {
    {CUBLASLT_MATMUL_PREF_SEARCH_MODE, offsetof(LtPreference, search), 4},
    {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, offsetof(LtPreference, workspace), 8},
    {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, offsetof(LtPreference, schemes), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, offsetof(LtPreference, alignment), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, offsetof(LtPreference, alignment) + 4, 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, offsetof(LtPreference, alignment) + 8, 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, offsetof(LtPreference, alignment) + 12, 4},
};

constexpr Attribute kAlgorithm[] = {
    {CUBLASLT_ALGO_CONFIG_ID, offsetof(LtAlgorithm, id), 4},
    {CUBLASLT_ALGO_CONFIG_TILE_ID, offsetof(LtAlgorithm, tile), 4},
    {CUBLASLT_ALGO_CONFIG_SPLITK_NUM, offsetof(LtAlgorithm, splits), 4},
    {CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, offsetof(LtAlgorithm, scheme), 4},
    {CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, offsetof(LtAlgorithm, swizzling), 4},
    {CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, offsetof(LtAlgorithm, custom), 4},
    {CUBLASLT_ALGO_CONFIG_STAGES_ID, offsetof(LtAlgorithm, stages), 4},
    {CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, offsetof(LtAlgorithm, inner_shape), 2},
    {CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, offsetof(LtAlgorithm, cluster_shape), 2},
};

// Gives the caller a structure of the vendor's size that holds `ours`.
template <class Ours, class Opaque>
cublasStatus_t create(Opaque** handle, const Ours& ours) {
  *handle = new Opaque{};
  new (*handle) Ours(ours);
  return CUBLAS_STATUS_SUCCESS;
}

template <class Opaque>
cublasStatus_t destroy(Opaque* handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* handle, cublasComputeType_t compute, cudaDataType_t scale) {
  LtDescription description;
  description.compute = compute;
  description.scale = scale;
  return create(handle, description);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t handle) { return destroy(handle); }

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle, cublasLtMatmulDescAttributes_t number, const void* value, size_t bytes) {
  return set_attribute(kDescription, handle, number, value, bytes);
}

cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t handle, cublasLtMatmulDescAttributes_t number, void* value, size_t bytes, size_t* written) {
  return get_attribute(kDescription, handle, number, value, bytes, written);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* handle, cudaDataType type, uint64_t rows, uint64_t columns, int64_t leading) {
  LtLayout layout;
  layout.type = static_cast<uint32_t>(type);
  layout.rows = rows;
  layout.columns = columns;
  layout.leading = leading;
  return create(handle, layout);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t handle) { return destroy(handle); }

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle, cublasLtMatrixLayoutAttribute_t number, const void* value, size_t bytes) {
  return set_attribute(kLayout, handle, number, value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t handle, cublasLtMatrixLayoutAttribute_t number, void* value, size_t bytes,
                                                size_t* written) {
  return get_attribute(kLayout, handle, number, value, bytes, written);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* handle) { return create(handle, LtPreference()); }

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t handle) { return destroy(handle); }

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle, cublasLtMatmulPreferenceAttributes_t number, const void* value,
                                                    size_t bytes) {
  return set_attribute(kPreference, handle, number, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulAlgoConfigAttributes_t number, const void* value,
                                                    size_t bytes) {
  if (number == CUBLASLT_ALGO_CONFIG_ID) return CUBLAS_STATUS_INVALID_VALUE;  // chosen by cublasLtMatmulAlgoInit
  return set_attribute(kAlgorithm, algorithm, number, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulAlgoConfigAttributes_t number, void* value,
                                                    size_t bytes, size_t* written) {
  return get_attribute(kAlgorithm, algorithm, number, value, bytes, written);
}

}  // extern "C"
