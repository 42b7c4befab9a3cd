// Attention backward: weights are made again from log_sum_exp. With p the softmax and ds = p (<do, v> - <do, o>),
//   dq_i = scale sum_j ds_ij k_j,  dk_j = scale sum_i ds_ij q_i,  dv_j = sum_i p_ij do_i,  dbias_ij = sum over b of ds_ij.
// Each result has a kernel of its own, whose blocks own a tile of it and walk over the other side in order: more products
// than if they shared their weights, but no sum with two owners, and registers enough for wide heads.
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/cuda_backend.h"

namespace switchyard::cuda {
namespace attention {
namespace {

inline constexpr int kLanesOfRow = 8;

// center [B, H, queries] = <do, o>. A row has eight lanes.
template <class T>
__global__ void __launch_bounds__(kBlock) centers(float* center, const T* d_o, const T* o, Extents s) {
  constexpr int kRowsOfWarp = kWarp / kLanesOfRow;
  const int64_t rows = s.batch * s.heads * s.queries;
  for (int64_t first = warp_number() * kRowsOfWarp; first < rows; first += warps_of_grid() * kRowsOfWarp) {
    const int64_t row = first + lane_number() / kLanesOfRow, head = row / s.queries;
    float sum = 0;
    if (row < rows) {
      const Place at{head / s.heads, head % s.heads, row % s.queries};
      const T* a = tile_of(query_rows(d_o, s.heads * s.width, s, at), at.first).data;
      const T* b = tile_of(query_rows(o, s.heads * s.width, s, at), at.first).data;
      for (int c = lane_number() % kLanesOfRow; c < s.width; c += kLanesOfRow) sum = fmaf(wide(a[c]), wide(b[c]), sum);
    }
    for (int distance = kLanesOfRow / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kFullMask, sum, distance);
    if (row < rows && lane_number() % kLanesOfRow == 0) center[row] = sum;
  }
}

template <class T>
struct BackwardHead : Head<T> {
  HeadRows<const T> d_o;
  const float *log_sum_exp, *center;  // [queries]
};

template <class T>
__device__ BackwardHead<T> backward_head(const Head<T>& head, const T* d_o, const float* log_sum_exp, const float* center, const Extents& s, const Place& at) {
  const int64_t first = (at.b * s.heads + at.h) * s.queries;
  return {head, query_rows(d_o, s.heads * s.width, s, at), log_sum_exp + first, center + first};
}

template <int kGroups>
struct GradientStorage {
  union {  // one after the other
    Operands operands;
    Values<kGroups> values;
  };
  Weights weights;  // [the other side][owned row]: p, then ds
};

// p of this thread's patch, whose rows are queries, or else keys. Weights wait in shared memory, where registers are few.
template <bool kQueriesInRows, class T>
__device__ void find_weights(Weights& weights, Operands& shared, const BackwardHead<T>& head, const Extents& s, int64_t first_query, int64_t first_key) {
  const auto q = tile_of(head.q, first_query), k = tile_of(head.k, first_key);
  Patch products = {};
  add_products(products, shared, kQueriesInRows ? q : k, kQueriesInRows ? k : q, s.width);
  const Sight sight = sight_of(head, s, first_query, first_key);
  const unsigned open = sight.open(kQueriesInRows ? patch_column() : patch_row());
  const float* log_sum_exp = head.log_sum_exp + first_query;
#pragma unroll
  for (int j = 0; j < kPatch; ++j) {
    Four column;
#pragma unroll
    for (int i = 0; i < kPatch; ++i) {
      const int query = kQueriesInRows ? patch_row() + i : patch_column() + j, key = kQueriesInRows ? patch_column() + j : patch_row() + i;
      const float score = sight.score(products[i][j], query, key, (open >> (kQueriesInRows ? j : i) & 1) != 0);
      column.x[i] = score == kHidden ? 0.0f : expf(score - log_sum_exp[query]);
    }
    weights[patch_column() + j][patch_row() / kPatch] = column;
  }
}

// p becomes ds.
template <bool kQueriesInRows, class T>
__device__ void find_gradients(Weights& weights, Operands& shared, const BackwardHead<T>& head, const Extents& s, int64_t first_query, int64_t first_key) {
  const auto d_o = tile_of(head.d_o, first_query), v = tile_of(head.v, first_key);
  Patch products = {};
  add_products(products, shared, kQueriesInRows ? d_o : v, kQueriesInRows ? v : d_o, s.width);
  const float* center = head.center + first_query;
#pragma unroll
  for (int j = 0; j < kPatch; ++j) {
    Four& column = weights[patch_column() + j][patch_row() / kPatch];
#pragma unroll
    for (int i = 0; i < kPatch; ++i) {
      const float p = column.x[i];  // 0: hidden, or outside
      if (p != 0) column.x[i] = p * (products[i][j] - center[kQueriesInRows ? patch_row() + i : patch_column() + j]);
    }
  }
}

enum class Result { kDq, kDk, kDv };

// What a tile of keys is seen by: the first query's tile, down to its beginning.
__device__ inline int64_t first_seeing_query(const Extents& s, int64_t first_key) {
  return s.causal && first_key > s.first_position ? (first_key - s.first_position) / kTile * kTile : 0;
}

// out: dq, dk or dv. Rows of dk and dv after the last key of a sequence become 0.
template <class T, int kGroups, Result kResult>
__global__ void __launch_bounds__(kBlock, kBlocksOfProcessor<kGroups>) gradient(T* out, const T* q, const T* k, const T* v, const T* d_o, const int32_t* mask,
                                                                                const float* bias, const float* log_sum_exp, const float* center, Extents s) {
  constexpr bool kOfQueries = kResult == Result::kDq;
  auto& shared = shared_storage<GradientStorage<kGroups>>();
  const Place at = place_of(s, kOfQueries ? s.queries : s.key_stride, kOfQueries && s.causal);
  const BackwardHead<T> head = backward_head(head_of(q, k, v, mask, bias, s, at), d_o, log_sum_exp, center, s, at);
  const int64_t begin = kOfQueries ? 0 : first_seeing_query(s, at.first);
  const int64_t end = kOfQueries ? end_of_keys(s, at.first) : (at.first < s.keys ? s.queries : 0);
  const auto& others = kOfQueries ? head.k : (kResult == Result::kDk ? head.q : head.d_o);
  Sums<kGroups> sums = {};
  for (int64_t other = begin; other < end; other += kTile) {
    const int64_t query = kOfQueries ? at.first : other, key = kOfQueries ? other : at.first;
    find_weights<kOfQueries>(shared.weights, shared.operands, head, s, query, key);
    if constexpr (kResult != Result::kDv) find_gradients<kOfQueries>(shared.weights, shared.operands, head, s, query, key);
    add_weighted(sums, shared.values, shared.weights, tile_of(others, other), s.width);
  }
  HeadRows<T> to = kOfQueries ? query_rows(out, s.out_stride, s, at) : key_rows(out, s.out_stride, s, at);
  if (!kOfQueries) to.count = s.key_stride;
  const float factor = kResult == Result::kDv ? 1.0f : s.scale;
  store_rows(tile_of(to, at.first), sums, {{factor, factor, factor, factor}}, s.width);
}

// A block owns a tile of one head and adds the sequences in their order.
template <class T>
__global__ void __launch_bounds__(kBlock) bias_gradient(float* dbias, const T* q, const T* k, const T* v, const T* d_o, const int32_t* mask, const float* bias,
                                                        const float* log_sum_exp, const float* center, Extents s, bool add) {
  auto& shared = shared_storage<GradientStorage<1>>();
  const int64_t query_tiles = tiles_of(s.queries), key_tiles = tiles_of(s.keys);
  const int64_t h = blockIdx.x / (query_tiles * key_tiles);
  const int64_t first_query = blockIdx.x / key_tiles % query_tiles * kTile, first_key = blockIdx.x % key_tiles * kTile;
  Patch sums = {};
  for (int64_t b = 0; b < s.batch && first_key < end_of_keys(s, first_query); ++b) {
    const Place at{b, h, first_query};
    const BackwardHead<T> head = backward_head(head_of(q, k, v, mask, bias, s, at), d_o, log_sum_exp, center, s, at);
    find_weights<true>(shared.weights, shared.operands, head, s, first_query, first_key);
    find_gradients<true>(shared.weights, shared.operands, head, s, first_query, first_key);
#pragma unroll
    for (int i = 0; i < kPatch; ++i) {
#pragma unroll
      for (int j = 0; j < kPatch; ++j) sums[i][j] += shared.weights[patch_column() + j][patch_row() / kPatch].x[i];
    }
  }
  for (int i = 0; i < kPatch; ++i) {
    for (int j = 0; j < kPatch; ++j) {
      const int64_t query = first_query + patch_row() + i, key = first_key + patch_column() + j;
      if (query >= s.queries || key >= s.keys) continue;
      float& to = dbias[(h * s.queries + query) * s.keys + key];
      to = add ? to + sums[i][j] : sums[i][j];
    }
  }
}

struct BackwardJob {
  const AttentionInputs& in;
  Extents s;
  Tensor d_o, log_sum_exp;
  float* center;
  cudaStream_t stream;
};

template <class T, int kGroups, Result kResult>
void enqueue_gradient(const BackwardJob& job, const Tensor& out) {
  Extents s = job.s;
  check_stride(out);
  s.out_stride = out.row_stride();
  const int64_t rows = kResult == Result::kDq ? s.queries : s.key_stride;
  enqueue(&gradient<T, kGroups, kResult>, {blocks_of(tiles_of(rows) * s.batch * s.heads), kBlock, 0, job.stream}, data_of<T>(out), data_of<const T>(job.in.q),
          data_of<const T>(job.in.k), data_of<const T>(job.in.v), data_of<const T>(job.d_o), data_of<const int32_t>(job.in.mask),
          data_of<const float>(job.in.bias), data_of<const float>(job.log_sum_exp), job.center, s);
}

template <class T>
void enqueue_bias_gradient(const BackwardJob& job, const Target& dbias) {
  const Extents& s = job.s;
  enqueue(&bias_gradient<T>, {blocks_of(tiles_of(s.queries) * tiles_of(s.keys) * s.heads), kBlock, 0, job.stream}, data_of<float>(dbias.tensor),
          data_of<const T>(job.in.q), data_of<const T>(job.in.k), data_of<const T>(job.in.v), data_of<const T>(job.d_o), data_of<const int32_t>(job.in.mask),
          data_of<const float>(job.in.bias), data_of<const float>(job.log_sum_exp), job.center, s, dbias.add);
}

}  // namespace
}  // namespace attention

void CudaBackend::attention_backward(Out dq, Out dk, Out dv, Target dbias, const Tensor& d_o, const Tensor& o, const Tensor& log_sum_exp,
                                     const AttentionInputs& inputs, const AttentionShape& shape) {
  const attention::Extents s = attention::extents_of(inputs, shape);
  const Dtype dtype = inputs.q.dtype();
  check_matrix(dq.tensor, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected dq like q");
  check_matrix(dk.tensor, dtype, inputs.k.rows(), inputs.k.columns(), "attention_backward: expected dk like k");
  check_matrix(dv.tensor, dtype, inputs.v.rows(), inputs.v.columns(), "attention_backward: expected dv like v");
  check_dense(d_o, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected d_o like q");
  check_dense(o, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected o like q");
  const int64_t rows = s.batch * s.heads * s.queries;
  check_vector(log_sum_exp, Dtype::kF32, rows, "attention_backward: expected log_sum_exp [B, H, queries], exact");
  const bool wants_bias = dbias.tensor.exists();
  if (wants_bias) check_vector(dbias.tensor, Dtype::kF32, s.heads * s.queries * s.keys, "attention_backward: expected dbias [H, queries, keys], exact");
  if (rows * s.width * s.keys == 0) {
    for (const Out& d : {dq, dk, dv}) zero(d);
    if (wants_bias && !dbias.add) zero(Out(dbias.tensor));
    return;
  }
  float* center = static_cast<float*>(workspace_.at_least(rows * static_cast<int64_t>(sizeof(float))));
  const attention::BackwardJob job{inputs, s, d_o, log_sum_exp, center, stream()};
  with_activation(dtype, [&]<class T>(T) {
    enqueue(&attention::centers<T>, {blocks_for(rows * attention::kLanesOfRow, 2 * kBlock), kBlock, 0, stream()}, center, data_of<const T>(d_o),
            data_of<const T>(o), s);
    attention::with_groups(s.width, [&]<int kGroups>(std::integral_constant<int, kGroups>) {
      attention::enqueue_gradient<T, kGroups, attention::Result::kDq>(job, dq.tensor);
      attention::enqueue_gradient<T, kGroups, attention::Result::kDk>(job, dk.tensor);
      attention::enqueue_gradient<T, kGroups, attention::Result::kDv>(job, dv.tensor);
    });
    if (wants_bias) attention::enqueue_bias_gradient<T>(job, dbias);
  });
}

}  // namespace switchyard::cuda
