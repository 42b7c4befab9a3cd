// Attention has two ways: products in F32 are small tiles of our own (attention_f32.cpp), products in BF16 are the matrix
// library's (attention_bf16.cpp, attention_bf16_backward.cpp). Both cut the same tasks: one head of one sequence, or,
// with a gradient of the bias, one head whose sequences follow one another.
#pragma once

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {

// What both ways are given, checked, with at least one query, key and column.
struct AttentionForward {
  const AttentionInputs& in;
  const AttentionShape& shape;
  Tensor o, log_sum_exp;
};

struct AttentionBackward {
  const AttentionInputs& in;
  const AttentionShape& shape;
  Tensor dq, dk, dv;
  Tensor dbias;  // cleared or to be added to; or none
  Tensor d_o, o, log_sum_exp;
};

void attention_f32(const Loops& loops, Team& team, const AttentionForward& job);
void attention_f32(const Loops& loops, Team& team, const AttentionBackward& job);
void attention_bf16(const Loops& loops, Team& team, MatmulEngine& engine, const AttentionForward& job);
void attention_bf16(const Loops& loops, Team& team, MatmulEngine& engine, const AttentionBackward& job);

// One head's block of columns in the rows of one sequence.
struct HeadRows {
  const char* data = nullptr;
  Dtype dtype = Dtype::kF32;
  int64_t stride = 0;
  int64_t rows = 0;
};
inline HeadRows head_rows(const Tensor& x, int64_t first_row, int64_t rows, int64_t column) {
  return {address(x, first_row, column), x.dtype(), x.row_stride(), rows};
}

// What the queries of head h of sequence b see from query `first` on, of `keys` keys.
inline Sights sights_of(const AttentionInputs& in, const AttentionShape& s, int64_t b, int64_t h, int64_t first, int64_t keys) {
  return {.keys = keys,
          .causal = s.causal,
          .first_position = s.first_position + first,
          .scale = static_cast<float>(s.scale),
          .mask = in.mask.exists() ? in.mask.get<int32_t>() + b * s.keys : nullptr,
          .bias = in.bias.exists() ? in.bias.get<float>() + (h * s.queries + first) * s.keys : nullptr,
          .bias_stride = s.keys};
}

// Calls f(b, h, thread) for every head of every sequence.
template <class F>
void for_heads(Team& team, const AttentionShape& s, bool sequences_in_order, F f) {
  const int64_t together = sequences_in_order ? s.batch : 1;
  team.run(s.batch * s.heads / together, [&](int64_t task, int thread) {
    for (int64_t i = 0; i < together; ++i) f(sequences_in_order ? i : task / s.heads, task % s.heads, thread);
  });
}

}  // namespace switchyard::cpu
