#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"
#include "src/base/checked.h"

namespace switchyard::reference {
namespace {

void check_product(const Product& p) {
  check(p.matrix != nullptr && p.matrix->storage.exists(), "multiply: expected a packed matrix");
  const PackedMatrix& w = *p.matrix;
  const int64_t n = p.x.rows();
  check_matrix(p.x, w.dtype, n, w.inner(), "multiply: expected x [n, inner] of the matrix's dtype");
  check_matrix(p.y.tensor, w.dtype, n, w.columns(), "multiply: expected y [n, columns] of the matrix's dtype");
  if (p.bias.exists()) check_vector(p.bias, w.dtype, w.columns(), "multiply: expected bias [columns], exact");
  if (p.relu_of.exists()) check_dense(p.relu_of, w.dtype, n, w.columns(), "multiply: expected relu_of [n, columns] like y");
}

// <x[r], column c of the matrix that this side multiplies by>
template <class T>
T dot(const Product& p, int64_t r, int64_t c) {
  const PackedMatrix& matrix = *p.matrix;
  const T* x = p.x.row<T>(r);
  const T* w = static_cast<const T*>(matrix.storage.data());  // [out, in], as it is
  T total = 0;
  if (matrix.side == Side::kForward) {
    for (int64_t i = 0; i < matrix.in; ++i) total += x[i] * w[c * matrix.in + i];
  } else {
    for (int64_t o = 0; o < matrix.out; ++o) total += x[o] * w[o * matrix.in + c];
  }
  return total;
}

template <class T>
void multiply_one(const Product& p) {
  for (int64_t r = 0; r < p.x.rows(); ++r) {
    for (int64_t c = 0; c < p.matrix->columns(); ++c) {
      T y = dot<T>(p, r, c);
      if (p.bias.exists()) y += p.bias.get<T>()[c];
      if (p.relu && y < 0) y = 0;
      y *= dropout_factor<T>(p.dropout, r, c);
      if (p.relu_of.exists()) y = p.relu_of.row<T>(r)[c] > 0 ? y * static_cast<T>(p.relu_of_scale) : T{0};
      store(p.y.tensor.row<T>(r)[c], y, p.y.add);
    }
  }
}

template <class T>
void outer_one(const OuterProduct& p) {
  for (int64_t o = 0; o < p.dy.columns(); ++o) {
    for (int64_t i = 0; i < p.x.columns(); ++i) {
      T total = 0;
      for (int64_t r = 0; r < p.x.rows(); ++r) total += p.dy.row<T>(r)[o] * p.x.row<T>(r)[i];
      store(p.dw.tensor.row<T>(o)[i], total, p.dw.add);
    }
  }
}

}  // namespace

int64_t ReferenceBackend::packed_bytes(Dtype dtype, int64_t out, int64_t in, Side) const { return checked_multiply(checked_multiply(out, in), size_of(dtype)); }

void ReferenceBackend::pack(PackedMatrix& packed, const Tensor& w) {
  check(packed.storage.exists() && packed.storage.bytes() >= packed_bytes(packed.dtype, packed.out, packed.in, packed.side), "pack: storage too small");
  check(w.rows() == packed.out && w.columns() == packed.in, "pack: expected w [out, in]");
  convert(Out(Tensor(packed.storage.data(), packed.dtype, w.shape())), w);
}

void ReferenceBackend::multiply(std::span<const Product> products) {
  for (const Product& p : products) {
    check_product(p);
    with_exact(p.matrix->dtype, [&]<class T>() { multiply_one<T>(p); });
  }
}

void ReferenceBackend::multiply_outer(std::span<const OuterProduct> products) {
  for (const OuterProduct& p : products) {
    check_matrix(p.x, p.dy.dtype(), p.dy.rows(), p.x.columns(), "multiply_outer: expected dy and x of one dtype with the same number of rows");
    check_dense(p.dw.tensor, p.dy.dtype(), p.dy.columns(), p.x.columns(), "multiply_outer: expected dw [out, in], exact");
    with_exact(p.dy.dtype(), [&]<class T>() { outer_one<T>(p); });
  }
}

}  // namespace switchyard::reference
