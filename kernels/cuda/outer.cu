// dW = dy' x. Entries follow one another in the stream, so those that share a dW join it in list order.
//
// Rows are summed as one product. Only where an extent is odd, so that operands are copied, they are cut to bound the copies;
// that follows from the shape, never from an address. The parts join dW in order.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/pieces.h"
#include "kernels/cuda/support.h"

namespace switchyard::cuda {
namespace {

void check_outer(const OuterProduct& p) {
  check(p.dy.dtype() == Dtype::kF32 || p.dy.dtype() == Dtype::kBF16, "multiply_outer: expected F32 or BF16");
  check_device(p.dy);
  check_matrix(p.x, p.dy.dtype(), p.dy.rows(), p.x.columns(), "multiply_outer: expected dy and x of one dtype with the same number of rows");
  check_dense(p.dw.tensor, Dtype::kF32, p.dy.columns(), p.x.columns(), "multiply_outer: expected dw [out, in], exact");
}

void outer_one(const OuterProduct& p, Products& products, Workspace& workspace, cudaStream_t stream) {
  const Dtype dtype = p.dy.dtype();
  const Tensor& dw = p.dw.tensor;
  const ProductShape shape{ProductKind::kOuter, dtype, Dtype::kF32, padded(dw.rows(), dtype), padded(dw.columns(), dtype)};
  const bool odd = shape.other != dw.rows() || shape.columns != dw.columns();
  const bool reads_dy = lies_well(p.dy), reads_x = lies_well(p.x), writes_dw = !odd && lies_well(dw);
  const int64_t n = p.dy.rows(), dy_bytes = shape.other * size_of(dtype), x_bytes = shape.columns * size_of(dtype);
  const int64_t step = odd ? std::min(n, rows_at_a_time(dy_bytes + x_bytes)) : n;
  Pieces pieces;
  const Piece<char> dy_piece = pieces.take<char>(reads_dy ? 0 : step * dy_bytes), x_piece = pieces.take<char>(reads_x ? 0 : step * x_bytes);
  const Piece<float> dw_piece = pieces.take<float>(writes_dw ? 0 : shape.other * shape.columns);
  void* memory = workspace.at_least(pieces.bytes());
  const Tensor place(dw_piece.in(memory), Dtype::kF32, {shape.other, shape.columns}, Device::kCuda);
  for (int64_t first = 0; first < n; first += step) {
    const int64_t count = std::min(step, n - first);
    const bool add = p.dw.add || first > 0;
    const Tensor some_dy = p.dy.slice_rows(first, count), some_x = p.x.slice_rows(first, count);
    const Rows dy = reads_dy ? rows_of(some_dy) : padded_copy(dy_piece.in(memory), dtype, count, some_dy, stream);
    const Rows x = reads_x ? rows_of(some_x) : padded_copy(x_piece.in(memory), dtype, count, some_x, stream);
    products.run(shape, count, x, dy, writes_dw ? rows_of(dw) : rows_of(place), writes_dw && add);
    if (writes_dw) continue;
    Product way_out;
    way_out.y = {dw, add};
    finish(way_out, place.slice_rows(0, dw.rows()).slice_columns(0, dw.columns()), stream);
  }
}

}  // namespace

void CudaBackend::multiply_outer(std::span<const OuterProduct> products) {
  for (const OuterProduct& p : products) check_outer(p);
  for (const OuterProduct& p : products) {
    const Tensor& dw = p.dw.tensor;
    if (dw.elements() == 0) continue;
    if (p.dy.rows() > 0) {
      outer_one(p, *products_, workspace_, stream());
    } else if (!p.dw.add) {
      require(cudaMemsetAsync(dw.data(), 0, static_cast<size_t>(dw.bytes()), stream()), "cudaMemsetAsync");
    }
  }
}

}  // namespace switchyard::cuda
