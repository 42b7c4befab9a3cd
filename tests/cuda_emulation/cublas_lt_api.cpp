// cublasLt: products whose algorithm the program chooses.
#include <cublasLt.h>

#include <algorithm>
#include <iterator>
#include <new>
#include <span>
#include <vector>

#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/lt_descriptors.h"
#include "tests/cuda_emulation/matmul.h"

using namespace switchyard::emulation;

struct cublasLtContext {
  int reserved = 0;
};

namespace {

// The matrix in its own rows and columns.
Matrix stored(const void* data, const LtLayout& layout) {
  const auto type = static_cast<cudaDataType>(layout.type);
  const auto rows = static_cast<int64_t>(layout.rows), columns = static_cast<int64_t>(layout.columns);
  if (layout.order == CUBLASLT_ORDER_COL) return column_major(data, type, rows, columns, layout.leading, layout.batch_step);
  return transposed(column_major(data, type, columns, rows, layout.leading, layout.batch_step));
}

Matrix operand(int32_t operation, const Matrix& matrix) { return operation == CUBLAS_OP_N ? matrix : transposed(matrix); }

bool is_supported(const LtDescription& description) {
  const uint32_t rest = description.epilogue & ~uint32_t{CUBLASLT_EPILOGUE_RELU_BIAS};
  const bool epilogue = description.epilogue == CUBLASLT_EPILOGUE_DEFAULT || rest == 0;
  const bool compute =
      description.compute == CUBLAS_COMPUTE_32F || description.compute == CUBLAS_COMPUTE_32F_PEDANTIC || description.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  return epilogue && compute && description.scale == CUDA_R_32F && description.pointer_mode == CUBLASLT_POINTER_MODE_HOST;
}

bool is_supported(const LtLayout& layout) {
  return (layout.type == CUDA_R_32F || layout.type == CUDA_R_16BF) && (layout.order == CUBLASLT_ORDER_COL || layout.order == CUBLASLT_ORDER_ROW);
}

// Whether layouts fit one another; addresses are not looked at.
cublasStatus_t check_shapes(const LtDescription& description, const LtLayout* const (&layouts)[4]) {
  if (!is_supported(description)) return CUBLAS_STATUS_NOT_SUPPORTED;
  for (const LtLayout* layout : layouts) {
    if (!is_supported(*layout)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (layout->batches != layouts[0]->batches) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Matrix a = operand(description.op_a, stored(nullptr, *layouts[0]));
  const Matrix b = operand(description.op_b, stored(nullptr, *layouts[1]));
  const Matrix c = stored(nullptr, *layouts[2]), d = stored(nullptr, *layouts[3]);
  const bool fit = a.columns == b.rows && a.rows == d.rows && b.columns == d.columns && c.rows == d.rows && c.columns == d.columns;
  return fit ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

LtAlgorithm algorithm_of_rank(int rank, int64_t m, int64_t n) {
  LtAlgorithm algorithm;
  algorithm.id = (best_algorithm(m, n) + rank) % kAlgorithms;
  return algorithm;
}

int64_t terms_apart_by(const LtAlgorithm& algorithm, int64_t k) {
  const int64_t apart = terms_apart(static_cast<int>(static_cast<uint32_t>(algorithm.id) + algorithm.tile + algorithm.stages), k);
  const int64_t splits = std::max<int64_t>(algorithm.splits, 1);
  return std::max<int64_t>(1, std::min(apart, (k + splits - 1) / splits));
}

// The parts of a product whose inner extent is split meet in the workspace, in f32, or in place.
size_t workspace_bytes(const LtAlgorithm& algorithm, const LtLayout& d) {
  return algorithm.splits > 1 && algorithm.scheme != CUBLASLT_REDUCTION_SCHEME_INPLACE
             ? algorithm.splits * d.rows * d.columns * static_cast<uint64_t>(d.batches) * sizeof(float)
             : 0;
}

cublasStatus_t check_algorithm(const LtAlgorithm& algorithm) {
  if (algorithm.id < 0 || algorithm.id >= kAlgorithms) return CUBLAS_STATUS_INVALID_VALUE;
  return (algorithm.splits > 1) == (algorithm.scheme != CUBLASLT_REDUCTION_SCHEME_NONE) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

// Half of them load 16 bytes at once, of every matrix, and one of these wants matrices to begin at multiples of 128.
bool takes_address(const LtAlgorithm& algorithm, uint64_t address) {
  const uint64_t alignment[kAlgorithms] = {1, 1, 16, 128};
  return address % alignment[algorithm.id] == 0;
}

bool takes_steps(const LtAlgorithm& algorithm, const LtLayout& layout) {
  const uint64_t element = layout.type == CUDA_R_32F ? 4 : 2, together = algorithm.id < kAlgorithms / 2 ? 1 : 16;
  return static_cast<uint64_t>(layout.leading) * element % together == 0 && static_cast<uint64_t>(layout.batch_step) * element % together == 0;
}

// The custom option kWholeTiles is for large results only.
constexpr uint32_t kWholeTiles = 1;

bool takes(const LtAlgorithm& algorithm, std::span<const LtLayout* const> layouts) {
  if (algorithm.custom == kWholeTiles && layouts.back()->columns < 64) return false;
  return std::all_of(layouts.begin(), layouts.end(), [&](const LtLayout* layout) { return takes_steps(algorithm, *layout); });
}

// What heuristics consider for a product of inner extent `k`, the best first: parts of a long sum at once, then whole sums.
std::vector<LtAlgorithm> considered(const LtLayout& d, int64_t k) {
  std::vector<LtAlgorithm> all;
  const auto m = static_cast<int64_t>(d.rows), n = static_cast<int64_t>(d.columns);
  for (const uint32_t scheme : {CUBLASLT_REDUCTION_SCHEME_INPLACE, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}) {
    if (k < 64) break;
    LtAlgorithm split = algorithm_of_rank(0, m, n);
    split.splits = 4;
    split.scheme = scheme;
    all.push_back(split);
  }
  LtAlgorithm whole_tiles = algorithm_of_rank(0, m, n);
  whole_tiles.custom = kWholeTiles;
  if (n >= 1024) all.push_back(whole_tiles);
  for (int rank = 0; rank < kAlgorithms; ++rank) all.push_back(algorithm_of_rank(rank, m, n));
  return all;
}

bool is_wanted(const LtAlgorithm& algorithm, const LtPreference& preference, const LtLayout& d) {
  const bool scheme = algorithm.scheme == CUBLASLT_REDUCTION_SCHEME_NONE || (preference.schemes & algorithm.scheme) != 0;
  const bool aligned =
      std::all_of(std::begin(preference.alignment), std::end(preference.alignment), [&](uint32_t bytes) { return takes_address(algorithm, bytes); });
  return scheme && aligned && workspace_bytes(algorithm, d) <= preference.workspace;
}

// Where parts meet in place, they do so in the order in which they end: here another one at each call.
int64_t first_part(const LtAlgorithm& algorithm) {
  static int64_t calls = 0;
  return algorithm.scheme == CUBLASLT_REDUCTION_SCHEME_INPLACE ? ++calls : 0;
}

void set_epilogue(Matmul& product, const LtDescription& description) {
  product.relu = (description.epilogue & CUBLASLT_EPILOGUE_RELU) != 0;
  if ((description.epilogue & CUBLASLT_EPILOGUE_BIAS) == 0) return;
  product.bias = description.bias;
  product.bias_type = description.bias_type < 0 ? product.d.type : static_cast<cudaDataType>(description.bias_type);
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (take_injected() != cudaSuccess || device_count() == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

cublasStatus_t cublasLtMatmulAlgoGetIds(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t,
                                        int requested, int ids[], int* found) {
  if (requested <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  *found = std::min(requested, kAlgorithms);
  for (int i = 0; i < *found; ++i) ids[i] = i;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoInit(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t,
                                      int id, cublasLtMatmulAlgo_t* algorithm) {
  if (algorithm == nullptr || id < 0 || id >= kAlgorithms) return CUBLAS_STATUS_INVALID_VALUE;
  *algorithm = {};
  LtAlgorithm& ours = *new (algorithm) LtAlgorithm;
  ours.id = id;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
  const LtLayout* layouts[] = {&inside<LtLayout>(a), &inside<LtLayout>(b), &inside<LtLayout>(c), &inside<LtLayout>(d)};
  const cublasStatus_t shapes = check_shapes(inside<LtDescription>(description), layouts);
  const LtAlgorithm& ours = inside<LtAlgorithm>(algorithm);
  result->state = shapes != CUBLAS_STATUS_SUCCESS ? shapes : check_algorithm(ours);
  if (result->state == CUBLAS_STATUS_SUCCESS && !takes(ours, layouts)) result->state = CUBLAS_STATUS_NOT_SUPPORTED;
  result->workspaceSize = workspace_bytes(ours, *layouts[3]);
  result->wavesCount = 1.0f;
  return result->state;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  if (requested <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  const LtLayout* layouts[] = {&inside<LtLayout>(a), &inside<LtLayout>(b), &inside<LtLayout>(c), &inside<LtLayout>(d)};
  if (const cublasStatus_t invalid = check_shapes(inside<LtDescription>(description), layouts); invalid != CUBLAS_STATUS_SUCCESS) return invalid;
  *found = 0;
  for (const LtAlgorithm& algorithm : considered(*layouts[3], operand(inside<LtDescription>(description).op_a, stored(nullptr, *layouts[0])).columns)) {
    if (*found == requested) break;
    if (!is_wanted(algorithm, inside<LtPreference>(preference), *layouts[3]) || !takes(algorithm, layouts)) continue;
    cublasLtMatmulHeuristicResult_t& result = results[(*found)++];
    result = {};
    new (&result.algo) LtAlgorithm(algorithm);
    if (const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle, description, a, b, c, d, &result.algo, &result); status != CUBLAS_STATUS_SUCCESS)
      return status;
  }
  return *found > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description_handle, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_size, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const LtDescription& description = inside<LtDescription>(description_handle);
  const LtLayout* layouts[] = {&inside<LtLayout>(a_layout), &inside<LtLayout>(b_layout), &inside<LtLayout>(c_layout), &inside<LtLayout>(d_layout)};
  if (const cublasStatus_t invalid = check_shapes(description, layouts); invalid != CUBLAS_STATUS_SUCCESS) return invalid;
  Matmul product;
  product.a = operand(description.op_a, stored(a, *layouts[0]));
  product.b = operand(description.op_b, stored(b, *layouts[1]));
  product.c = stored(c, *layouts[2]);
  product.d = stored(d, *layouts[3]);
  product.batches = layouts[3]->batches;
  product.alpha = *static_cast<const float*>(alpha);
  product.beta = *static_cast<const float*>(beta);
  set_epilogue(product, description);
  if ((description.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0 && product.bias == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (description.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && product.a.type == CUDA_R_32F) product.inputs = Inputs::kRoundedToTf32;
  const auto taken = [&](const LtAlgorithm& candidate) {
    const uintptr_t addresses = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | reinterpret_cast<uintptr_t>(d);
    return takes(candidate, layouts) && takes_address(candidate, addresses | (product.beta != 0 ? reinterpret_cast<uintptr_t>(c) : 0));
  };
  LtAlgorithm chosen = algorithm_of_rank(0, product.d.rows, product.d.columns);
  for (int rank = 1; !taken(chosen); ++rank) chosen = algorithm_of_rank(rank, product.d.rows, product.d.columns);
  if (algorithm != nullptr) chosen = inside<LtAlgorithm>(algorithm);
  if (const cublasStatus_t invalid = check_algorithm(chosen); invalid != CUBLAS_STATUS_SUCCESS) return invalid;
  if (!taken(chosen)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const size_t needed = workspace_bytes(chosen, *layouts[3]);
  if (needed > workspace_size || (workspace_size > 0 && device_bytes_from(workspace) < workspace_size)) return CUBLAS_STATUS_INVALID_VALUE;
  product.apart = terms_apart_by(chosen, product.a.columns);
  product.first_part = first_part(chosen);
  return enqueue_matmul(product, stream);
}

}  // extern "C"
