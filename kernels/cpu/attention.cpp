// The door of attention: checks, sizes of zero, and the choice between its two ways.
#include "kernels/cpu/attention.h"

namespace switchyard::cpu {
namespace {

void check_attention(const AttentionInputs& in, const AttentionShape& s) {
  const Dtype dtype = in.q.dtype();
  const int64_t width = s.heads * s.width;
  check_activation(in.q, "attention: expected F32 or BF16");
  check(s.key_stride >= s.keys && s.first_position >= 0, "attention: key_stride is smaller than keys, or a position is negative");
  check_matrix(in.q, dtype, s.batch * s.queries, width, "attention: expected q [B * queries, H * K]");
  check_matrix(in.k, dtype, s.batch * s.key_stride, width, "attention: expected k [B * key_stride, H * K]");
  check_matrix(in.v, dtype, s.batch * s.key_stride, width, "attention: expected v [B * key_stride, H * K]");
  if (in.mask.exists()) check_vector(in.mask, Dtype::kI32, s.batch * s.keys, "attention: expected mask [B, keys] I32");
  if (in.bias.exists()) check_vector(in.bias, Dtype::kF32, s.heads * s.queries * s.keys, "attention: expected bias [H, queries, keys], exact");
}

}  // namespace

void CpuBackend::attention_forward(Out o, Out log_sum_exp, const AttentionInputs& inputs, const AttentionShape& shape) {
  check_attention(inputs, shape);
  check_dense(o.tensor, inputs.q.dtype(), inputs.q.rows(), inputs.q.columns(), "attention_forward: expected o like q");
  check_vector(log_sum_exp.tensor, Dtype::kF32, shape.batch * shape.heads * shape.queries, "attention_forward: expected log_sum_exp [B, H, queries], exact");
  if (shape.batch * shape.heads * shape.queries * shape.width == 0) return;
  if (shape.keys == 0) {
    zero(o);
    zero(log_sum_exp);
    return;
  }
  const AttentionForward job{inputs, shape, o.tensor, log_sum_exp.tensor};
  if (engine_.dtype_for(inputs.q.dtype()) == Dtype::kF32) {
    attention_f32(loops_, team_, job);
  } else {
    attention_bf16(loops_, team_, engine_, job);
  }
}

void CpuBackend::attention_backward(Out dq, Out dk, Out dv, Target dbias, const Tensor& d_o, const Tensor& o, const Tensor& log_sum_exp,
                                    const AttentionInputs& inputs, const AttentionShape& shape) {
  check_attention(inputs, shape);
  const Dtype dtype = inputs.q.dtype();
  check_matrix(dq.tensor, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected dq like q");
  check_matrix(dk.tensor, dtype, inputs.k.rows(), inputs.k.columns(), "attention_backward: expected dk like k");
  check_matrix(dv.tensor, dtype, inputs.v.rows(), inputs.v.columns(), "attention_backward: expected dv like v");
  check_dense(d_o, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected d_o like q");
  check_dense(o, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected o like q");
  check_vector(log_sum_exp, Dtype::kF32, shape.batch * shape.heads * shape.queries, "attention_backward: expected log_sum_exp [B, H, queries], exact");
  if (dbias.tensor.exists()) {
    check_vector(dbias.tensor, Dtype::kF32, shape.heads * shape.queries * shape.keys, "attention_backward: expected dbias [H, queries, keys], exact");
    if (!dbias.add) zero(Out(dbias.tensor));
  }
  if (shape.batch * shape.heads * shape.queries * shape.width * shape.keys == 0) {
    for (const Out& d : {dq, dk, dv}) zero(d);
    return;
  }
  const AttentionBackward job{inputs, shape, dq.tensor, dk.tensor, dv.tensor, dbias.tensor, d_o, o, log_sum_exp};
  if (engine_.dtype_for(dtype) == Dtype::kF32) {
    attention_f32(loops_, team_, job);
  } else {
    attention_bf16(loops_, team_, engine_, job);
  }
}

}  // namespace switchyard::cpu
