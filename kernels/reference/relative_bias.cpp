#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

void check_bias(const Tensor& bias, const Tensor& table, const Tensor& bucket) {
  check(table.rank() == 2 && table.contiguous(), "relative_bias: expected table [N, H]");
  check(bias.rank() == 3 && bias.extent(0) == table.columns() && bias.dtype() == table.dtype() && bias.contiguous(),
        "relative_bias: expected bias [H, queries, keys] of the table's dtype");
  const int64_t distances = bias.extent(1) + bias.extent(2) - 1;
  check_vector(bucket, Dtype::kI32, distances < 0 ? 0 : distances, "relative_bias: expected bucket [queries + keys - 1] I32");
}

// Calls f(head, place, bucket) for every place of the bias, in the order of the indices.
template <class F>
void for_each_place(const Tensor& bias, const Tensor& bucket, int64_t buckets, F f) {
  const int64_t queries = bias.extent(1), keys = bias.extent(2);
  for (int64_t h = 0; h < bias.extent(0); ++h) {
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j < keys; ++j) {
        const int32_t b = bucket.get<int32_t>()[queries - 1 + j - i];
        check(b >= 0 && b < buckets, "relative_bias: a bucket outside the table");
        f(h, (h * queries + i) * keys + j, b);
      }
    }
  }
}

}  // namespace

void ReferenceBackend::relative_bias(Out bias, const Tensor& table, const Tensor& bucket) {
  check_bias(bias.tensor, table, bucket);
  with_exact(table.dtype(), [&]<class T>() {
    for_each_place(bias.tensor, bucket, table.rows(), [&](int64_t h, int64_t place, int32_t b) { bias.tensor.get<T>()[place] = table.row<T>(b)[h]; });
  });
}

void ReferenceBackend::relative_bias_backward(Target dtable, const Tensor& dbias, const Tensor& bucket) {
  check_bias(dbias, dtable.tensor, bucket);
  if (!dtable.add) zero(Out(dtable.tensor));
  with_exact(dbias.dtype(), [&]<class T>() {
    for_each_place(dbias, bucket, dtable.tensor.rows(), [&](int64_t h, int64_t place, int32_t b) { dtable.tensor.row<T>(b)[h] += dbias.get<T>()[place]; });
  });
}

}  // namespace switchyard::reference
