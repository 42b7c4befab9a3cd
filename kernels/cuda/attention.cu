// Attention forward: a block for each tile of queries walks over the keys with a softmax that is corrected as larger scores
// come. Nothing of the size of a row of scores is stored.
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/cuda_backend.h"

namespace switchyard::cuda {
namespace attention {

Extents extents_of(const AttentionInputs& in, const AttentionShape& s) {
  const Dtype dtype = in.q.dtype();
  const int64_t columns = s.heads * s.width;
  check(dtype == Dtype::kF32 || dtype == Dtype::kBF16, "attention: expected F32 or BF16");
  check(s.key_stride >= s.keys && s.first_position >= 0, "attention: key_stride is smaller than keys, or a position is negative");
  check(s.width <= kWidest, "attention: the device has no heads wider than 256");
  for (const Tensor& x : {in.q, in.k, in.v}) check_stride(x);
  check(s.keys <= kLongestStride, "attention: the device has no more than 2^24 keys");
  check_matrix(in.q, dtype, s.batch * s.queries, columns, "attention: expected q [B * queries, H * K]");
  check_matrix(in.k, dtype, s.batch * s.key_stride, columns, "attention: expected k [B * key_stride, H * K]");
  check_matrix(in.v, dtype, s.batch * s.key_stride, columns, "attention: expected v [B * key_stride, H * K]");
  if (in.mask.exists()) check_vector(in.mask, Dtype::kI32, s.batch * s.keys, "attention: expected mask [B, keys] I32");
  if (in.bias.exists()) check_vector(in.bias, Dtype::kF32, s.heads * s.queries * s.keys, "attention: expected bias [H, queries, keys], exact");
  return {.batch = s.batch,
          .queries = s.queries,
          .keys = s.keys,
          .key_stride = s.key_stride,
          .heads = s.heads,
          .first_position = s.first_position,
          .q_stride = in.q.row_stride(),
          .k_stride = in.k.row_stride(),
          .v_stride = in.v.row_stride(),
          .out_stride = columns,
          .width = static_cast<int>(s.width),
          .causal = s.causal,
          .scale = static_cast<float>(s.scale)};
}

namespace {

template <int kGroups>
struct ForwardStorage {
  union {  // one after the other
    Operands operands;
    Values<kGroups> values;
  };
  Weights weights;              // [key][query]: scores, then exp(score - top of the row)
  Four factor[kTile / kPatch];  // of each query's sums
};

// What a query's softmax has come to. Four lanes have a query: they take turns of two keys and hold the same state.
struct Softmax {
  float top = kHidden, total = 0;

  __device__ static int row() { return static_cast<int>(threadIdx.x) / kWarp * 8 + lane_number() % 8; }
  __device__ static int part() { return lane_number() / 8; }
  __device__ static float& at(Four* rows) { return rows[row() / kPatch].x[row() % kPatch]; }

  __device__ static float of_four_lanes_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(kFullMask, x, 8));
    return fmaxf(x, __shfl_xor_sync(kFullMask, x, 16));
  }
  __device__ static float of_four_lanes_sum(float x) {
    x += __shfl_xor_sync(kFullMask, x, 8);
    return x + __shfl_xor_sync(kFullMask, x, 16);
  }

  // Scores of a tile become weights. Returns what earlier weights must be multiplied by: exactly 1 where the top stays, so
  // that a tile of hidden keys changes nothing.
  __device__ float take(Weights& scores) {
    constexpr int kTurns = kTile / 8;
    float highest = top;
    for (int turn = 0; turn < kTurns; ++turn) {
      for (int n = 8 * turn + 2 * part(); n < 8 * turn + 2 * part() + 2; ++n) highest = fmaxf(highest, at(scores[n]));
    }
    highest = of_four_lanes_max(highest);
    const float base = highest == kHidden ? 0.0f : highest;
    float sum = 0;
    for (int turn = 0; turn < kTurns; ++turn) {
      for (int n = 8 * turn + 2 * part(); n < 8 * turn + 2 * part() + 2; ++n) {
        const float weight = expf(at(scores[n]) - base);
        at(scores[n]) = weight;
        sum += weight;
      }
    }
    const float keep = expf(top - base);
    total = fmaf(total, keep, of_four_lanes_sum(sum));
    top = highest;
    return keep;
  }
  // No key was visible. NaN counts as visible and stays NaN.
  __device__ bool empty() const { return total == 0; }
  __device__ float log_sum_exp() const { return empty() ? 0.0f : top + logf(total); }
  __device__ float inverse() const { return empty() ? 0.0f : 1.0f / total; }
};

template <int kGroups>
__device__ void scale_sums(Sums<kGroups>& sums, const Four& factor) {
#pragma unroll
  for (int i = 0; i < kPatch; ++i) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int j = 0; j < kPatch; ++j) sums.x[i][g][j] *= factor.x[i];
    }
  }
}

// The scores of this thread's patch, transposed.
__device__ inline void store_scores(Weights& scores, const Patch& products, const Sight& sight) {
  const unsigned open = sight.open(patch_column());
#pragma unroll
  for (int j = 0; j < kPatch; ++j) {
    Four column;
#pragma unroll
    for (int i = 0; i < kPatch; ++i) column.x[i] = sight.score(products[i][j], patch_row() + i, patch_column() + j, (open >> j & 1) != 0);
    scores[patch_column() + j][patch_row() / kPatch] = column;
  }
}

template <class T, int kGroups>
__global__ void __launch_bounds__(kBlock, kBlocksOfProcessor<kGroups>)
    forward(T* o, float* log_sum_exp, const T* q, const T* k, const T* v, const int32_t* mask, const float* bias, Extents s) {
  auto& shared = shared_storage<ForwardStorage<kGroups>>();
  const Place at = place_of(s, s.queries, s.causal);
  const Head<T> head = head_of(q, k, v, mask, bias, s, at);
  const int64_t end = end_of_keys(s, at.first);
  Softmax softmax;
  Sums<kGroups> sums = {};
  for (int64_t key = 0; key < end; key += kTile) {
    Patch products = {};
    add_products(products, shared.operands, tile_of(head.q, at.first), tile_of(head.k, key), s.width);
    store_scores(shared.weights, products, sight_of(head, s, at.first, key));
    __syncthreads();
    const float keep = softmax.take(shared.weights);
    if (Softmax::part() == 0) Softmax::at(shared.factor) = keep;
    __syncthreads();
    scale_sums(sums, shared.factor[patch_row() / kPatch]);
    add_weighted(sums, shared.values, shared.weights, tile_of(head.v, key), s.width);
  }
  if (Softmax::part() == 0) {
    Softmax::at(shared.factor) = softmax.inverse();
    const int64_t query = at.first + Softmax::row();
    if (query < s.queries) log_sum_exp[(at.b * s.heads + at.h) * s.queries + query] = softmax.log_sum_exp();
  }
  __syncthreads();
  store_rows(tile_of(query_rows(o, s.out_stride, s, at), at.first), sums, shared.factor[patch_row() / kPatch], s.width);
}

}  // namespace
}  // namespace attention

void CudaBackend::attention_forward(Out o, Out log_sum_exp, const AttentionInputs& inputs, const AttentionShape& shape) {
  const attention::Extents s = attention::extents_of(inputs, shape);
  check_dense(o.tensor, inputs.q.dtype(), inputs.q.rows(), inputs.q.columns(), "attention_forward: expected o like q");
  check_vector(log_sum_exp.tensor, Dtype::kF32, s.batch * s.heads * s.queries, "attention_forward: expected log_sum_exp [B, H, queries], exact");
  if (s.batch * s.heads * s.queries * s.width == 0) return;
  if (s.keys == 0) {
    zero(o);
    zero(log_sum_exp);
    return;
  }
  const dim3 grid = attention::blocks_of(attention::tiles_of(s.queries) * s.batch * s.heads);
  with_activation(inputs.q.dtype(), [&]<class T>(T) {
    attention::with_groups(s.width, [&]<int kGroups>(std::integral_constant<int, kGroups>) {
      enqueue(&attention::forward<T, kGroups>, {grid, kBlock, 0, stream()}, data_of<T>(o.tensor), data_of<float>(log_sum_exp.tensor),
              data_of<const T>(inputs.q), data_of<const T>(inputs.k), data_of<const T>(inputs.v), data_of<const int32_t>(inputs.mask),
              data_of<const float>(inputs.bias), s);
    });
  });
}

}  // namespace switchyard::cuda
