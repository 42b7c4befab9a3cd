// A bias depends on the distance alone, so a task is one head: its values by distance are one line in scratch, of which
// every query's row is a piece. Backward, the line gathers the rows (queries in order), then its places are added to the
// buckets (distances in order), in F64.
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

void check_bias(const Tensor& bias, const Tensor& table, const Tensor& bucket) {
  check(table.rank() == 2 && table.dtype() == Dtype::kF32 && table.contiguous(), "relative_bias: expected table [N, H], exact");
  check(bias.rank() == 3 && bias.extent(0) == table.columns() && bias.dtype() == Dtype::kF32 && bias.contiguous(),
        "relative_bias: expected bias [H, queries, keys], exact");
  const int64_t distances = std::max<int64_t>(0, bias.extent(1) + bias.extent(2) - 1);
  check_vector(bucket, Dtype::kI32, distances, "relative_bias: expected bucket [queries + keys - 1] I32");
  for (int64_t i = 0; i < distances; ++i) {
    const int32_t b = bucket.get<int32_t>()[i];
    check(b >= 0 && b < table.rows(), "relative_bias: a bucket outside the table");
  }
}

}  // namespace

void CpuBackend::relative_bias(Out bias, const Tensor& table, const Tensor& bucket) {
  check_bias(bias.tensor, table, bucket);
  const int64_t queries = bias.tensor.extent(1), keys = bias.tensor.extent(2), distances = bucket.elements();
  if (queries * keys == 0) return;
  team_.reserve(distances * size_of(Dtype::kF32));
  team_.run(table.columns(), [&](int64_t head, int thread) {
    float* line = reinterpret_cast<float*>(team_.scratch(thread));
    for (int64_t d = 0; d < distances; ++d) line[d] = table.row<float>(bucket.get<int32_t>()[d])[head];
    float* to = bias.tensor.row<float>(head);
    for (int64_t i = 0; i < queries; ++i) std::memcpy(to + i * keys, line + queries - 1 - i, static_cast<size_t>(keys) * sizeof(float));
  });
}

void CpuBackend::relative_bias_backward(Target dtable, const Tensor& dbias, const Tensor& bucket) {
  check_bias(dbias, dtable.tensor, bucket);
  if (!dtable.add) zero(Out(dtable.tensor));
  const int64_t queries = dbias.extent(1), keys = dbias.extent(2), distances = bucket.elements(), buckets = dtable.tensor.rows();
  if (queries * keys == 0) return;
  team_.reserve((distances + buckets) * size_of(Dtype::kF64));
  team_.run(dtable.tensor.columns(), [&](int64_t head, int thread) {
    double* line = reinterpret_cast<double*>(team_.scratch(thread));
    double* total = line + distances;
    std::memset(line, 0, static_cast<size_t>(distances + buckets) * sizeof(double));
    for (int64_t i = 0; i < queries; ++i) {
      const float* from = dbias.row<float>(head) + i * keys;
      for (int64_t j = 0; j < keys; ++j) line[queries - 1 - i + j] += static_cast<double>(from[j]);
    }
    for (int64_t d = 0; d < distances; ++d) total[bucket.get<int32_t>()[d]] += line[d];
    for (int64_t b = 0; b < buckets; ++b) dtable.tensor.row<float>(b)[head] += static_cast<float>(total[b]);
  });
}

}  // namespace switchyard::cpu
