// Products: matrix products by cuBLASLt, in which no row's bits depend on how many rows are beside it.
//
// An algorithm is chosen once for each ProductShape, which holds no number of rows, and for a fixed number of them; then it
// serves any. It splits no sum: without split-K, a reduction scheme and a workspace, the order of an element's sum follows
// from the algorithm alone. Operands lie as the fastest algorithms want them, always, so that an address cannot choose either:
// rows begin at multiples of kAlignment bytes and have a multiple of kAlignment bytes, zeros at their ends where the tensor
// has fewer columns. Tensors that do not lie so are copied.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <map>

#include "kernels/backend.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/gpu.h"

namespace switchyard::cuda {

enum class ProductKind : uint8_t {
  kForward,   // y [n, columns] = x [n, other] w [columns, other]'
  kBackward,  // y [n, columns] = x [n, other] w [other, columns]
  kOuter,     // dw [other, columns] = dy [n, other]' x [n, columns]
};

// Both extents are padded.
struct ProductShape {
  ProductKind kind = ProductKind::kForward;
  Dtype dtype = Dtype::kF32;   // of the operands
  Dtype result = Dtype::kF32;  // rounded to once
  int64_t other = 0;
  int64_t columns = 0;

  auto operator<=>(const ProductShape&) const = default;
};

// A matrix of the device by rows, which are `stride` elements apart.
struct Rows {
  void* data = nullptr;
  int64_t stride = 0;
};

// Of one product, but for an outer one: an element of the result then has a number below 2^31 for up to 65536 columns.
inline constexpr int64_t kMostRows = 1 << 15;

class Products {
 public:
  explicit Products(Gpu& gpu) : stream_(gpu.compute()) {}

  // Puts the product of n > 0 rows into the compute stream; the result is added to what is there where `add`.
  // matrix: w, or x of an outer product. rows: x, or dy of an outer product.
  void run(const ProductShape& shape, int64_t n, const Rows& matrix, const Rows& rows, const Rows& result, bool add);

 private:
  const ProductDescription& description(ProductKind kind) const;
  const cublasLtMatmulAlgo_t& algorithm(const ProductShape& shape);
  cublasLtMatmulAlgo_t chosen(const ProductShape& shape) const;
  bool takes_any_rows(const ProductShape& shape, const cublasLtMatmulAlgo_t& algorithm) const;

  cudaStream_t stream_;
  BlasLt library_;
  ProductDescription forward_{CUBLAS_OP_T, CUBLAS_OP_N}, backward_{CUBLAS_OP_N, CUBLAS_OP_N}, outer_{CUBLAS_OP_N, CUBLAS_OP_T};
  std::map<ProductShape, cublasLtMatmulAlgo_t> algorithms_;
};

// ---- operands -----------------------------------------------------------------------------------------------------------

inline constexpr int64_t kAlignment = 16;  // bytes that a thread loads at once

inline int64_t padded(int64_t extent, Dtype dtype) {
  const int64_t whole = kAlignment / size_of(dtype);
  return (extent + whole - 1) / whole * whole;
}

// Whether a product can read or write it where it lies.
inline bool lies_well(const Tensor& x) {
  const bool steps = x.row_stride() * size_of(x.dtype()) % kAlignment == 0;
  return steps && x.columns() == padded(x.columns(), x.dtype()) && reinterpret_cast<uintptr_t>(x.data()) % kAlignment == 0;
}

inline Rows rows_of(const Tensor& x) { return {x.data(), x.row_stride()}; }

// to [rows, padded columns] of `dtype` = x, rounded; zeros beyond it. x: F32, or `dtype`.
Rows padded_copy(void* to, Dtype dtype, int64_t rows, const Tensor& x, cudaStream_t stream);

// y of `product` from the bare result, which may be y itself: everything that Product promises after x * matrix.
void finish(const Product& product, const Tensor& result, cudaStream_t stream);

// How many rows are worked on at a time where each takes `bytes` of the workspace: a multiple of kRowPanel.
inline int64_t rows_at_a_time(int64_t bytes) {
  constexpr int64_t kBytes = int64_t{32} << 20;
  return std::clamp(kBytes / bytes / kRowPanel * kRowPanel, kRowPanel, kMostRows);
}

}  // namespace switchyard::cuda
