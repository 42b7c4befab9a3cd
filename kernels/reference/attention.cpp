// Scores are computed where they are needed, up to three times: nothing of the size of a row of scores is stored.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

void check_inputs(const AttentionInputs& in, const AttentionShape& s) {
  const Dtype dtype = in.q.dtype();
  const int64_t width = s.heads * s.width;
  check(s.key_stride >= s.keys, "attention: key_stride is smaller than keys");
  check_matrix(in.q, dtype, s.batch * s.queries, width, "attention: expected q [B * queries, H * K]");
  check_matrix(in.k, dtype, s.batch * s.key_stride, width, "attention: expected k [B * key_stride, H * K]");
  check_matrix(in.v, dtype, s.batch * s.key_stride, width, "attention: expected v [B * key_stride, H * K]");
  if (in.mask.exists()) check_vector(in.mask, Dtype::kI32, s.batch * s.keys, "attention: expected mask [B, keys] I32");
  if (in.bias.exists()) check_vector(in.bias, dtype, s.heads * s.queries * s.keys, "attention: expected bias [H, queries, keys], exact");
}

// One query of one head of one sequence.
struct Place {
  int64_t b, h, i;
};

bool visible(const AttentionInputs& in, const AttentionShape& s, Place at, int64_t j) {
  if (s.causal && j > s.first_position + at.i) return false;
  return !in.mask.exists() || in.mask.get<int32_t>()[at.b * s.keys + j] != 0;
}

// Columns of head h in a row of q, o and their gradients, or of k, v and theirs.
template <class T>
T* query_row(const Tensor& x, const AttentionShape& s, Place at) {
  return x.row<T>(at.b * s.queries + at.i) + at.h * s.width;
}
template <class T>
T* key_row(const Tensor& x, const AttentionShape& s, Place at, int64_t j) {
  return x.row<T>(at.b * s.key_stride + j) + at.h * s.width;
}

template <class T>
T dot(const T* a, const T* b, int64_t n) {
  T total = 0;
  for (int64_t c = 0; c < n; ++c) total += a[c] * b[c];
  return total;
}

template <class T>
T score(const AttentionInputs& in, const AttentionShape& s, Place at, int64_t j) {
  const T product = static_cast<T>(s.scale) * dot(query_row<T>(in.q, s, at), key_row<T>(in.k, s, at, j), s.width);
  return in.bias.exists() ? product + in.bias.get<T>()[(at.h * s.queries + at.i) * s.keys + j] : product;
}

template <class T>
void forward_query(T* o, T& log_sum_exp, const AttentionInputs& in, const AttentionShape& s, Place at) {
  std::fill_n(o, s.width, T{0});
  log_sum_exp = 0;
  T largest = -std::numeric_limits<T>::infinity();
  bool any = false;
  for (int64_t j = 0; j < s.keys; ++j) {
    if (!visible(in, s, at, j)) continue;
    any = true;
    largest = std::max(largest, score<T>(in, s, at, j));
  }
  if (!any) return;
  T total = 0;
  for (int64_t j = 0; j < s.keys; ++j) {
    if (!visible(in, s, at, j)) continue;
    const T weight = std::exp(score<T>(in, s, at, j) - largest);
    total += weight;
    const T* v = key_row<T>(in.v, s, at, j);
    for (int64_t c = 0; c < s.width; ++c) o[c] += weight * v[c];
  }
  for (int64_t c = 0; c < s.width; ++c) o[c] /= total;
  log_sum_exp = largest + std::log(total);
}

struct AttentionGradients {
  Tensor dq, dk, dv, dbias;
};

// With p the softmax:  dv_j += p_j do;  ds_j = p_j (<do, v_j> - <do, o>);  dq += scale ds_j k_j;  dk_j += scale ds_j q.
template <class T>
void backward_query(const AttentionGradients& d, const T* d_o, const T* o, T log_sum_exp, const AttentionInputs& in, const AttentionShape& s, Place at) {
  const T center = dot(d_o, o, s.width);
  T* dq = query_row<T>(d.dq, s, at);
  const T* q = query_row<T>(in.q, s, at);
  for (int64_t j = 0; j < s.keys; ++j) {
    if (!visible(in, s, at, j)) continue;
    const T* k = key_row<T>(in.k, s, at, j);
    T* dk = key_row<T>(d.dk, s, at, j);
    T* dv = key_row<T>(d.dv, s, at, j);
    const T p = std::exp(score<T>(in, s, at, j) - log_sum_exp);
    const T ds = p * (dot(d_o, static_cast<const T*>(key_row<T>(in.v, s, at, j)), s.width) - center);
    const T scaled = static_cast<T>(s.scale) * ds;
    for (int64_t c = 0; c < s.width; ++c) {
      dv[c] += p * d_o[c];
      dq[c] += scaled * k[c];
      dk[c] += scaled * q[c];
    }
    if (d.dbias.exists()) d.dbias.get<T>()[(at.h * s.queries + at.i) * s.keys + j] += ds;
  }
}

template <class F>
void for_each_query(const AttentionShape& s, F f) {
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t i = 0; i < s.queries; ++i) f(Place{b, h, i}, (b * s.heads + h) * s.queries + i);
    }
  }
}

}  // namespace

void ReferenceBackend::attention_forward(Out o, Out log_sum_exp, const AttentionInputs& inputs, const AttentionShape& shape) {
  check_inputs(inputs, shape);
  check_dense(o.tensor, inputs.q.dtype(), inputs.q.rows(), inputs.q.columns(), "attention_forward: expected o like q");
  check_vector(log_sum_exp.tensor, inputs.q.dtype(), shape.batch * shape.heads * shape.queries, "attention_forward: expected log_sum_exp [B, H, queries]");
  with_exact(inputs.q.dtype(), [&]<class T>() {
    for_each_query(shape,
                   [&](Place at, int64_t row) { forward_query<T>(query_row<T>(o.tensor, shape, at), log_sum_exp.tensor.get<T>()[row], inputs, shape, at); });
  });
}

void ReferenceBackend::attention_backward(Out dq, Out dk, Out dv, Target dbias, const Tensor& d_o, const Tensor& o, const Tensor& log_sum_exp,
                                          const AttentionInputs& inputs, const AttentionShape& shape) {
  check_inputs(inputs, shape);
  const Dtype dtype = inputs.q.dtype();
  check_matrix(dq.tensor, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected dq like q");
  check_matrix(dk.tensor, dtype, inputs.k.rows(), inputs.k.columns(), "attention_backward: expected dk like k");
  check_matrix(dv.tensor, dtype, inputs.v.rows(), inputs.v.columns(), "attention_backward: expected dv like v");
  check_dense(d_o, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected d_o like q");
  check_dense(o, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected o like q");
  check_vector(log_sum_exp, dtype, shape.batch * shape.heads * shape.queries, "attention_backward: expected log_sum_exp [B, H, queries]");
  if (dbias.tensor.exists())
    check_vector(dbias.tensor, dtype, shape.heads * shape.queries * shape.keys, "attention_backward: expected dbias [H, queries, keys]");
  zero(dq);
  zero(dk);
  zero(dv);
  if (dbias.tensor.exists() && !dbias.add) zero(Out(dbias.tensor));
  const AttentionGradients d{dq.tensor, dk.tensor, dv.tensor, dbias.tensor};
  with_exact(dtype, [&]<class T>() {
    for_each_query(shape, [&](Place at, int64_t row) {
      backward_query<T>(d, query_row<T>(d_o, shape, at), query_row<T>(o, shape, at), log_sum_exp.get<T>()[row], inputs, shape, at);
    });
  });
}

}  // namespace switchyard::reference
