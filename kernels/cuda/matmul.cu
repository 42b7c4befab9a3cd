// y = x W' and y = x W. Where nothing follows the product it is cuBLASLt's alone; else it goes through F32, in y or in the
// workspace, and one kernel does the rest.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/pieces.h"
#include "kernels/cuda/quads_of_threads.h"

namespace switchyard::cuda {
namespace {

struct Padding {
  int64_t rows, columns, stride;  // of what is copied
};

// to [padded, dense], from [rows, columns].
template <class To, class From>
__global__ void pad_rows(To* to, const From* from, Plane padded, Padding p) {
  for_quads(padded, [&](int64_t row, int64_t column, int64_t left) {
    const int64_t there = row < p.rows ? p.columns - column : 0;
    store_quad(to + row * padded.columns + column, left, load_quad(from + row * p.stride + column, there));
  });
}

struct WayOut {
  int64_t result_stride, y_stride, relu_of_stride;
  Drops drops;
  float relu_of_scale;
  bool relu, add;
};

// y may be `result`. bias and relu_of may be none.
template <class Result, class Y, class Gate>
__global__ void finish_rows(Y* y, const Result* result, const float* bias, const Gate* relu_of, Plane plane, WayOut way) {
  for_quads(plane, [&](int64_t row, int64_t column, int64_t left) {
    Quad quad = load_quad(result + row * way.result_stride + column, left);
    if (bias != nullptr) add_quad(quad, load_quad(bias + column, left));
    if (way.relu) {
      for (float& x : quad.x) x = x < 0 ? 0 : x;  // what is no number stays so
    }
    if (way.drops.active) {
      const Philox4 words = way.drops.random.words(static_cast<uint64_t>(row), static_cast<uint32_t>(column / kQuad));
      for (int j = 0; j < kQuad; ++j) quad.x[j] *= words[static_cast<size_t>(j)] < way.drops.threshold ? 0.0f : way.drops.scale;
    }
    if (relu_of != nullptr) {
      const Quad gate = load_quad(relu_of + row * way.relu_of_stride + column, left);
      for (int j = 0; j < kQuad; ++j) quad.x[j] = gate.x[j] > 0 ? quad.x[j] * way.relu_of_scale : 0;
    }
    store_quad(y + row * way.y_stride + column, left, quad, way.add);
  });
}

void check_product(const Product& p) {
  check(p.matrix != nullptr && p.matrix->storage.exists(), "multiply: expected a packed matrix");
  const PackedMatrix& w = *p.matrix;
  check_device(w.storage);
  const int64_t n = p.x.rows();
  check_matrix(p.x, w.dtype, n, w.inner(), "multiply: expected x [n, inner] of the matrix's dtype");
  const Dtype y = p.y.tensor.dtype();
  check(y == w.dtype || y == Dtype::kF32, "multiply: expected y of the matrix's dtype, or exact");
  check_matrix(p.y.tensor, y, n, w.columns(), "multiply: expected y [n, columns]");
  if (p.bias.exists()) check_vector(p.bias, Dtype::kF32, w.columns(), "multiply: expected bias [columns], exact");
  if (p.relu_of.exists()) check_matrix(p.relu_of, w.dtype, n, w.columns(), "multiply: expected relu_of [n, columns] of the matrix's dtype");
}

bool has_epilogue(const Product& p) { return p.bias.exists() || p.relu || p.dropout.rate > 0 || p.relu_of.exists(); }

// What the library rounds to: to y's dtype only where the same bits come out if the rest is done after rounding. It follows
// from the product's form, never from an address, since another result may be another algorithm.
Dtype bare_result(const Product& p) {
  const bool commutes = !p.y.add && !p.bias.exists() && p.dropout.rate <= 0 && (!p.relu_of.exists() || p.relu_of_scale == 1);
  return commutes ? p.y.tensor.dtype() : Dtype::kF32;
}

// Rows first .. first + count - 1 of a product.
Product some_rows(const Product& p, int64_t first, int64_t count) {
  Product some = p;
  some.x = p.x.slice_rows(first, count);
  some.y.tensor = p.y.tensor.slice_rows(first, count);
  if (p.relu_of.exists()) some.relu_of = p.relu_of.slice_rows(first, count);
  some.dropout.random.first_index += static_cast<uint64_t>(first);
  return some;
}

void multiply_one(const Product& whole, Products& products, Workspace& workspace, cudaStream_t stream) {
  const PackedMatrix& w = *whole.matrix;
  const ProductShape shape{w.side == Side::kForward ? ProductKind::kForward : ProductKind::kBackward, w.dtype, bare_result(whole), padded(w.inner(), w.dtype),
                           padded(w.columns(), w.dtype)};
  const Tensor& target = whole.y.tensor;
  const bool reads_x = lies_well(whole.x);
  const bool writes_y = !whole.y.add && target.dtype() == shape.result && target.columns() == shape.columns && lies_well(target);
  const int64_t x_bytes = reads_x ? 0 : shape.other * size_of(shape.dtype), y_bytes = writes_y ? 0 : shape.columns * size_of(shape.result);
  const int64_t n = whole.x.rows(), step = std::min(n, reads_x && writes_y ? kMostRows : rows_at_a_time(x_bytes + y_bytes));
  Pieces pieces;
  const Piece<char> x_piece = pieces.take<char>(step * x_bytes), y_piece = pieces.take<char>(step * y_bytes);
  void* memory = workspace.at_least(pieces.bytes());
  for (int64_t first = 0; first < n; first += step) {
    const Product p = some_rows(whole, first, std::min(step, n - first));
    const int64_t count = p.x.rows();
    const Rows x = reads_x ? rows_of(p.x) : padded_copy(x_piece.in(memory), shape.dtype, count, p.x, stream);
    const Tensor place(y_piece.in(memory), shape.result, {count, shape.columns}, Device::kCuda);
    const Tensor result = writes_y ? p.y.tensor : place.slice_columns(0, target.columns());
    products.run(shape, count, {w.storage.data(), padded(w.in, w.dtype)}, x, writes_y ? rows_of(p.y.tensor) : rows_of(place), false);
    if (!writes_y || has_epilogue(p)) finish(p, result, stream);
  }
}

}  // namespace

Rows padded_copy(void* to, Dtype dtype, int64_t rows, const Tensor& x, cudaStream_t stream) {
  const Plane plane{rows, padded(x.columns(), dtype)};
  const Padding padding{x.rows(), x.columns(), x.row_stride()};
  const auto run = [&]<class To, class From>(To, From) {
    enqueue(&pad_rows<To, From>, threads_for(plane, stream), static_cast<To*>(to), data_of<const From>(x), plane, padding);
  };
  if (dtype == Dtype::kF32) {
    run(float(), float());
  } else if (x.dtype() == Dtype::kF32) {
    run(__nv_bfloat16(), float());
  } else {
    run(__nv_bfloat16(), __nv_bfloat16());
  }
  return {to, plane.columns};
}

void finish(const Product& p, const Tensor& result, cudaStream_t stream) {
  const Tensor& y = p.y.tensor;
  const Plane plane{y.rows(), y.columns()};
  const WayOut way{result.row_stride(), y.row_stride(), p.relu_of.row_stride(), drops_of(p.dropout), static_cast<float>(p.relu_of_scale), p.relu, p.y.add};
  const auto run = [&]<class Result, class Y, class Gate>(Result, Y, Gate) {
    enqueue(&finish_rows<Result, Y, Gate>, threads_for(plane, stream), data_of<Y>(y), data_of<const Result>(result), data_of<const float>(p.bias),
            data_of<const Gate>(p.relu_of), plane, way);
  };
  if (result.dtype() == Dtype::kBF16) return run(__nv_bfloat16(), __nv_bfloat16(), __nv_bfloat16());
  if (y.dtype() == Dtype::kBF16) return run(float(), __nv_bfloat16(), __nv_bfloat16());
  if (p.relu_of.dtype() == Dtype::kBF16) return run(float(), float(), __nv_bfloat16());
  run(float(), float(), float());
}

int64_t CudaBackend::packed_bytes(Dtype dtype, int64_t out, int64_t in, Side) const {
  check(dtype == Dtype::kF32 || dtype == Dtype::kBF16, "packed_bytes: expected F32 or BF16");
  return padded(out, dtype) * padded(in, dtype) * size_of(dtype);
}

void CudaBackend::pack(PackedMatrix& packed, const Tensor& w) {
  check(packed.storage.exists() && packed.storage.bytes() >= packed_bytes(packed.dtype, packed.out, packed.in, packed.side), "pack: storage too small");
  check(reinterpret_cast<uintptr_t>(packed.storage.data()) % kAlignment == 0, "pack: expected storage that is aligned to 16 bytes");
  check(w.rows() == packed.out && w.columns() == packed.in && (w.dtype() == Dtype::kF32 || w.dtype() == packed.dtype),
        "pack: expected w [out, in], exact or of the packed dtype");
  check_device(w);
  check_device(packed.storage);
  padded_copy(packed.storage.data(), packed.dtype, padded(packed.out, packed.dtype), w, stream());
}

void CudaBackend::multiply(std::span<const Product> products) {
  for (const Product& p : products) check_product(p);
  for (const Product& p : products) {
    if (p.y.tensor.elements() > 0) multiply_one(p, *products_, workspace_, stream());
  }
}

}  // namespace switchyard::cuda
