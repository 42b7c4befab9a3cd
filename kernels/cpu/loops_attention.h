// Attention's softmax, both ways, on the scores of one tile of queries. See loops.h; built per SWITCHYARD_ISA.
#pragma once

#include "kernels/cpu/loops_rows.h"

namespace switchyard::SWITCHYARD_ISA {

// Lanes whose key counts.
inline Vec hide(Vec value, const int32_t* mask, int64_t i, int count, Vec hidden) {
  int32_t padded[kLanes] = {};
  std::memcpy(padded, mask + i, static_cast<size_t>(count) * sizeof(int32_t));
  const Ints words = load_words(padded), zero = broadcast_int(0);
  return select(less_unsigned(zero, words), value, hidden);
}
inline int lanes_of(Full) { return kLanes; }
inline int lanes_of(int count) { return count; }

template <class T>
inline void softmax_row(const SoftmaxRows& args, int64_t r) {
  const Vec hidden = broadcast(-__builtin_inff()), scale = broadcast(args.scale);
  float* s = args.s + r * args.stride;
  T* p = at<T>(args.p, r * args.stride);
  const float* bias = args.bias == nullptr ? nullptr : args.bias + r * args.bias_stride;
  const int64_t last = args.first_position + r + 1;
  const int64_t visible = args.causal && last < args.keys ? (last < 0 ? 0 : last) : args.keys;
  const auto score = [&](int64_t i, auto count) {
    Vec value = load(s + i, count) * scale;
    if (bias != nullptr) value = value + load(bias + i, count);
    value = keep_lanes(value, count, hidden);
    return args.mask == nullptr ? value : hide(value, args.mask, i, lanes_of(count), hidden);
  };
  Vec tops = hidden;
  for_lanes(visible, [&](int64_t i, auto count) { tops = max(tops, score(i, count)); });
  const float top = maximum(tops);
  const bool any = !(top == -__builtin_inff());  // NaN counts as visible and stays NaN
  Vec sums = zeros();
  int64_t done = 0;
  for_lanes(any ? visible : 0, [&](int64_t i, auto count) {
    const Vec e = exp(score(i, count) - broadcast(top));
    sums = sums + e;
    store(p + i, e, Full{});  // hidden lanes of the tail are 0; rows have room for whole vectors
    done = i + kLanes;
  });
  for (; done < args.padded_keys; done += kLanes) store(p + done, zeros(), Full{});
  const float total = any ? sum(sums) : 1.0f;
  args.inverse[r] = any ? 1.0f / total : 0.0f;
  args.log_sum_exp[r] = any ? top + __builtin_logf(total) : 0.0f;
}

inline void softmax_rows(const SoftmaxRows& args) {
  with_type(args.dtype, [&]<class T>() {
    for (int64_t r = 0; r < args.rows; ++r) softmax_row<T>(args, r);
  });
}

// Row j: p = exp(scale s + bias - log_sum_exp), ds = p (dp - center), 0 where key j is not visible to the query.
template <class T>
inline void softmax_gradient_row(const SoftmaxGradient& args, int64_t j) {
  const int64_t n = args.padded_queries, at_row = j * n;
  const bool counts = j < args.keys && (args.mask == nullptr || args.mask[j] != 0);
  int64_t first = args.causal ? j - args.first_position : 0;  // the first query that sees key j
  if (first < 0) first = 0;
  if (!counts || first > args.queries) first = args.queries;
  const auto clear = [&](int64_t i) {
    store(at<T>(args.p, at_row + i), zeros(), Full{});
    store(at<T>(args.ds, at_row + i), zeros(), Full{});
    if (args.keep_ds) store(args.dp + at_row + i, zeros(), Full{});
  };
  int64_t i = 0;
  for (; i + kLanes <= first; i += kLanes) clear(i);
  for (; i < args.queries && first < args.queries; i += kLanes) {
    Vec score = load(args.s + at_row + i, Full{}) * broadcast(args.scale);
    if (args.bias != nullptr) score = score + load(args.bias + at_row + i, Full{});
    Vec p = exp(score - load(args.log_sum_exp + i, Full{}));
    const Mask seen = less_signed(broadcast_int(static_cast<int32_t>(first - i) - 1), iota());
    const Mask real = less_signed(iota(), broadcast_int(static_cast<int32_t>(args.queries - i)));
    p = select(real, select(seen, p, zeros()), zeros());
    const Vec ds = select(real, select(seen, p * (load(args.dp + at_row + i, Full{}) - load(args.center + i, Full{})), zeros()), zeros());
    store(at<T>(args.p, at_row + i), p, Full{});
    store(at<T>(args.ds, at_row + i), ds, Full{});
    if (args.keep_ds) store(args.dp + at_row + i, ds, Full{});
  }
  for (; i < n; i += kLanes) clear(i);
}

inline void softmax_gradient(const SoftmaxGradient& args) {
  with_type(args.dtype, [&]<class T>() {
    for (int64_t j = 0; j < args.padded_keys; ++j) softmax_gradient_row<T>(args, j);
  });
}

}  // namespace switchyard::SWITCHYARD_ISA
