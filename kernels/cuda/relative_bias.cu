// A bias depends on the distance alone. Backward, the places of each distance are summed first, a part of the queries at a
// time, then the distances of each bucket, in F64.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {
namespace {

constexpr int64_t kPartQueries = 64;

struct BiasShape {
  int64_t heads, queries, keys, distances;
  bool add;

  __host__ __device__ int64_t parts() const { return divide_up(queries, kPartQueries); }
};

// A warp for each query; the grid's second extent shares out heads.
__global__ void __launch_bounds__(kBlock) spread_bias(float* bias, const float* table, const int32_t* bucket, BiasShape s) {
  for (int64_t head = blockIdx.y; head < s.heads; head += gridDim.y) {
    for (int64_t query = warp_number(); query < s.queries; query += warps_of_grid()) {
      const int32_t* bucket_of_key = bucket + s.queries - 1 - query;
      float* row = bias + (head * s.queries + query) * s.keys;
      for (int key = lane_number(); key < s.keys; key += kWarp) row[key] = table[bucket_of_key[key] * s.heads + head];
    }
  }
}

// sums [parts, heads, distances]: of the places of a distance, over the queries of a part. The grid's second extent shares out parts
// and heads; neighbouring threads read neighbouring keys.
__global__ void __launch_bounds__(kBlock) sum_distances(double* sums, const float* dbias, BiasShape s) {
  for (int64_t line = blockIdx.y; line < s.parts() * s.heads; line += gridDim.y) {
    const int64_t head = line % s.heads, first = line / s.heads * kPartQueries;
    for (int64_t distance = thread_number(); distance < s.distances; distance += threads_of_grid()) {
      const int64_t shift = distance - (s.queries - 1);  // key - query
      const int64_t begin = max(first, -shift), end = min(min(first + kPartQueries, s.queries), s.keys - shift);
      double total = 0;
      for (int64_t query = begin; query < end; ++query) total += static_cast<double>(dbias[(head * s.queries + query) * s.keys + query + shift]);
      sums[line * s.distances + distance] = total;
    }
  }
}

// A warp for each bucket and head.
__global__ void __launch_bounds__(kBlock) sum_buckets(float* dtable, const double* sums, const int32_t* bucket, int64_t buckets, BiasShape s) {
  for (int64_t at = warp_number(); at < buckets * s.heads; at += warps_of_grid()) {
    const int64_t own = at / s.heads, head = at % s.heads;
    double total = 0;
    for (int64_t distance = lane_number(); distance < s.distances; distance += kWarp) {
      if (bucket[distance] != own) continue;
      for (int64_t part = 0; part < s.parts(); ++part) total += sums[(part * s.heads + head) * s.distances + distance];
    }
    total = warp_sum(total);
    if (lane_number() == 0) dtable[at] = (s.add ? dtable[at] : 0) + static_cast<float>(total);
  }
}

BiasShape shape_of(const Tensor& bias, const Tensor& table, const Tensor& bucket, bool add) {
  check(table.rank() == 2, "relative_bias: expected table [N, H], exact");
  check_dense(table, Dtype::kF32, table.rows(), table.columns(), "relative_bias: expected table [N, H], exact");
  check(bias.rank() == 3 && bias.extent(0) == table.columns() && bias.dtype() == Dtype::kF32 && bias.contiguous(),
        "relative_bias: expected bias [H, queries, keys], exact");
  check_device(bias);
  const int64_t distances = std::max<int64_t>(0, bias.extent(1) + bias.extent(2) - 1);
  check_vector(bucket, Dtype::kI32, distances, "relative_bias: expected bucket [queries + keys - 1] I32");
  return {bias.extent(0), bias.extent(1), bias.extent(2), distances, add};
}

}  // namespace

void CudaBackend::relative_bias(Out bias, const Tensor& table, const Tensor& bucket) {
  const BiasShape shape = shape_of(bias.tensor, table, bucket, false);
  const dim3 grid(blocks_for_rows(shape.queries).x, blocks_for_jobs(shape.heads).x);
  enqueue(&spread_bias, {grid, kBlock, 0, stream()}, data_of<float>(bias.tensor), data_of<float>(table), data_of<int32_t>(bucket), shape);
}

void CudaBackend::relative_bias_backward(Target dtable, const Tensor& dbias, const Tensor& bucket) {
  const BiasShape shape = shape_of(dbias, dtable.tensor, bucket, dtable.add);
  const int64_t lines = shape.parts() * shape.heads, buckets = dtable.tensor.rows();
  auto* sums = static_cast<double*>(workspace_.at_least(lines * shape.distances * static_cast<int64_t>(sizeof(double))));
  const dim3 grid(blocks_for_items(shape.distances).x, blocks_for_jobs(lines).x);
  enqueue(&sum_distances, {grid, kBlock, 0, stream()}, sums, data_of<float>(dbias), shape);
  enqueue(&sum_buckets, {blocks_for_rows(buckets * shape.heads), kBlock, 0, stream()}, data_of<float>(dtable.tensor), sums, data_of<int32_t>(bucket), buckets,
          shape);
}

}  // namespace switchyard::cuda
