// Attention whose products are F32. A head's keys and values become dense rows in a core's cache, transposed where they
// meet queries; then each block of queries is worked on from scores to results before the next one begins. Keys after a
// block's last visible one are left out.
//
//   dv_j = sum_i p_ij do_i;  ds_ij = p_ij (<do_i, v_j> - <do_i, o_i>);  dq_i = scale sum_j ds_ij k_j;  dk_j = scale sum_i ds_ij q_i
//
// Probabilities are not kept: backward makes them again from log_sum_exp.
#include <cstring>

#include "kernels/cpu/attention.h"

namespace switchyard::cpu {
namespace {

constexpr int64_t kBlockQueries = 24;

// Extents as scratch has them: whole vectors, and what `transpose` asks for.
struct Extents {
  explicit Extents(const AttentionShape& s) : width(round_up(s.width, 16)), keys(round_up(s.keys, 32)) {}
  int64_t width, keys;
};

// One head of one sequence and a block of its queries.
struct Block {
  int64_t first, queries;
  int64_t keys;         // visible ones end before it
  int64_t padded_keys;  // columns of scores that are computed
};

Block block_at(const AttentionShape& s, int64_t first) {
  Block block{first, std::min(kBlockQueries, s.queries - first), s.keys, 0};
  if (s.causal) block.keys = std::min(s.keys, s.first_position + first + block.queries);
  block.padded_keys = round_up(block.keys, 16);
  return block;
}

void copy(const Loops& loops, float* to, const HeadRows& from, int64_t width, int64_t padded) {
  loops.copy_rows({to, from.data, from.dtype, from.stride, from.rows, width, padded});
}
// Rows as they lie where products can read them, else a copy of them.
struct Operand {
  const float* data;
  int64_t stride;
};
Operand operand(const Loops& loops, float* room, const HeadRows& from, int64_t width, int64_t padded) {
  if (from.dtype == Dtype::kF32 && width == padded) return {reinterpret_cast<const float*>(from.data), from.stride};
  copy(loops, room, from, width, padded);
  return {room, padded};
}
void copy_transposed(const Loops& loops, float* to, const HeadRows& from, int64_t width, int64_t padded) {
  loops.transpose({to, Dtype::kF32, from.data, from.dtype, from.stride, from.rows, width, padded});
}

struct ForwardScratch {
  ForwardScratch(char* base, const AttentionShape& s) : walk(base) {
    const Extents e(s);
    k_columns = walk.take<float>(s.width * e.keys);
    v = walk.take<float>(s.keys * e.width);
    q = walk.take<float>(kBlockQueries * e.width);
    p = walk.take<float>(kBlockQueries * e.keys);
    o = walk.take<float>(kBlockQueries * e.width);
    inverse = walk.take<float>(kBlockQueries);
  }
  Scratch walk;
  float* k_columns;  // [width, keys]
  float *v, *q, *p, *o, *inverse;
};

void forward_block(const Loops& loops, const AttentionForward& job, const ForwardScratch& at, const Block& block, int64_t b, int64_t h) {
  const AttentionShape& s = job.shape;
  const Extents e(s);
  const int64_t first_row = b * s.queries + block.first;
  const Operand q = operand(loops, at.q, head_rows(job.in.q, first_row, block.queries, h * s.width), s.width, e.width);
  loops.multiply_tile({at.p, e.keys, q.data, q.stride, 1, at.k_columns, e.keys, block.queries, block.padded_keys, s.width, false});
  SoftmaxRows rows{};
  rows.s = at.p;
  rows.p = at.p;
  rows.dtype = Dtype::kF32;
  rows.rows = block.queries;
  rows.padded_keys = block.padded_keys;
  rows.stride = e.keys;
  rows.sights = sights_of(job.in, s, b, h, block.first, block.keys);
  rows.inverse = at.inverse;
  rows.log_sum_exp = job.log_sum_exp.get<float>() + (b * s.heads + h) * s.queries + block.first;
  loops.softmax_rows(rows);
  loops.multiply_tile({at.o, e.width, at.p, e.keys, 1, at.v, e.width, block.queries, e.width, block.keys, false});
  loops.scale_rows(address(job.o, first_row, h * s.width), job.o.dtype(), job.o.row_stride(), at.o, e.width, at.inverse, 1.0f, block.queries, s.width);
}

struct BackwardScratch {
  BackwardScratch(char* base, const AttentionShape& s) : walk(base) {
    const Extents e(s);
    k_columns = walk.take<float>(s.width * e.keys);
    v_columns = walk.take<float>(s.width * e.keys);
    k = walk.take<float>(s.keys * e.width);
    dk = walk.take<float>(s.keys * e.width);
    dv = walk.take<float>(s.keys * e.width);
    q = walk.take<float>(kBlockQueries * e.width);
    d_o = walk.take<float>(kBlockQueries * e.width);
    dq = walk.take<float>(kBlockQueries * e.width);
    p = walk.take<float>(kBlockQueries * e.keys);
    ds = walk.take<float>(kBlockQueries * e.keys);
    center = walk.take<float>(kBlockQueries);
  }
  Scratch walk;
  float *k_columns, *v_columns;  // [width, keys]
  float *k, *dk, *dv;            // [keys, width]
  float *q, *d_o, *dq;           // [queries, width]
  float *p, *ds;                 // [queries, keys]
  float* center;
};

// The last block of queries sees most keys: it comes first and overwrites dk and dv, the others add.
void backward_block(const Loops& loops, const AttentionBackward& job, const BackwardScratch& at, const Block& block, bool add, int64_t b, int64_t h) {
  const AttentionShape& s = job.shape;
  const Extents e(s);
  const int64_t first_row = b * s.queries + block.first, n = block.queries, keys = block.padded_keys;
  const HeadRows d_o_rows = head_rows(job.d_o, first_row, n, h * s.width), o = head_rows(job.o, first_row, n, h * s.width);
  const Operand q = operand(loops, at.q, head_rows(job.in.q, first_row, n, h * s.width), s.width, e.width);
  const Operand d_o = operand(loops, at.d_o, d_o_rows, s.width, e.width);
  loops.dot_rows(at.center, d_o_rows.data, o.data, o.dtype, n, s.width, d_o_rows.stride, o.stride);
  loops.multiply_tile({at.p, e.keys, q.data, q.stride, 1, at.k_columns, e.keys, n, keys, s.width, false});
  loops.multiply_tile({at.ds, e.keys, d_o.data, d_o.stride, 1, at.v_columns, e.keys, n, keys, s.width, false});
  SoftmaxGradientRows g{};
  g.s = at.p;
  g.dp = at.ds;
  g.queries = n;
  g.padded_keys = keys;
  g.stride = e.keys;
  g.sights = sights_of(job.in, s, b, h, block.first, block.keys);
  g.log_sum_exp = job.log_sum_exp.get<float>() + (b * s.heads + h) * s.queries + block.first;
  g.center = at.center;
  loops.softmax_gradient_rows(g);
  loops.multiply_tile({at.dv, e.width, at.p, 1, e.keys, d_o.data, d_o.stride, block.keys, e.width, n, add});
  loops.multiply_tile({at.dk, e.width, at.ds, 1, e.keys, q.data, q.stride, block.keys, e.width, n, add});
  loops.multiply_tile({at.dq, e.width, at.ds, e.keys, 1, at.k, e.width, n, e.width, block.keys, false});
  loops.scale_rows(address(job.dq, first_row, h * s.width), job.dq.dtype(), job.dq.row_stride(), at.dq, e.width, nullptr, g.sights.scale, n, s.width);
  if (!job.dbias.exists()) return;
  for (int64_t i = 0; i < n; ++i) {
    float* to = job.dbias.get<float>() + (h * s.queries + block.first + i) * s.keys;
    loops.convert(to, Dtype::kF32, at.ds + i * e.keys, Dtype::kF32, block.keys, true);
  }
}

// Rows between keys and key_stride have gradient 0.
void store_keys(const Loops& loops, const AttentionShape& s, const Tensor& d, const float* from, float scale, int64_t b, int64_t h) {
  const int64_t first_row = b * s.key_stride;
  loops.scale_rows(address(d, first_row, h * s.width), d.dtype(), d.row_stride(), from, Extents(s).width, nullptr, scale, s.keys, s.width);
  for (int64_t j = s.keys; j < s.key_stride; ++j) {
    std::memset(address(d, first_row + j, h * s.width), 0, static_cast<size_t>(s.width * size_of(d.dtype())));
  }
}

}  // namespace

void attention_f32(const Loops& loops, Team& team, const AttentionForward& job) {
  const AttentionShape& s = job.shape;
  const Extents e(s);
  team.reserve(ForwardScratch(nullptr, s).walk.bytes());
  for_heads(team, s, false, [&](int64_t b, int64_t h, int thread) {
    const ForwardScratch at(team.scratch(thread), s);
    copy_transposed(loops, at.k_columns, head_rows(job.in.k, b * s.key_stride, s.keys, h * s.width), s.width, e.keys);
    copy(loops, at.v, head_rows(job.in.v, b * s.key_stride, s.keys, h * s.width), s.width, e.width);
    for (int64_t first = 0; first < s.queries; first += kBlockQueries) forward_block(loops, job, at, block_at(s, first), b, h);
  });
}

void attention_f32(const Loops& loops, Team& team, const AttentionBackward& job) {
  const AttentionShape& s = job.shape;
  const Extents e(s);
  team.reserve(BackwardScratch(nullptr, s).walk.bytes());
  for_heads(team, s, job.dbias.exists(), [&](int64_t b, int64_t h, int thread) {
    const BackwardScratch at(team.scratch(thread), s);
    const HeadRows k = head_rows(job.in.k, b * s.key_stride, s.keys, h * s.width), v = head_rows(job.in.v, b * s.key_stride, s.keys, h * s.width);
    copy_transposed(loops, at.k_columns, k, s.width, e.keys);
    copy_transposed(loops, at.v_columns, v, s.width, e.keys);
    copy(loops, at.k, k, s.width, e.width);
    const Block last = block_at(s, (s.queries - 1) / kBlockQueries * kBlockQueries);
    for (int64_t first = last.first; first >= 0; first -= kBlockQueries) backward_block(loops, job, at, block_at(s, first), first < last.first, b, h);
    for (float* sums : {at.dk, at.dv}) std::memset(sums + last.keys * e.width, 0, static_cast<size_t>((s.keys - last.keys) * e.width) * sizeof(float));
    store_keys(loops, s, job.dk, at.dk, static_cast<float>(s.scale), b, h);
    store_keys(loops, s, job.dv, at.dv, 1.0f, b, h);
  });
}

}  // namespace switchyard::cpu
