// Attention's softmax, both ways, on the scores of one tile of queries. See loops.h; built per SWITCHYARD_ISA.
#pragma once

#include "kernels/cpu/loops_rows.h"

namespace switchyard::SWITCHYARD_ISA {

// What a row of queries sees of its keys: those before `visible` whose mask is not 0. Rows are walked in whole vectors,
// so that the rows of a block take equally many turns: a branch that ends elsewhere in every row costs more than it saves.
struct Sight {
  int64_t visible, keys;
  const int32_t* mask;  // or null
  const float* bias;    // or null

  // Vectors before open() are scores as they are, those before end() have keys to hide, the rest is hidden.
  int64_t open() const { return mask == nullptr && bias == nullptr ? visible / kLanes * kLanes : 0; }
  int64_t end() const { return (visible + kLanes - 1) / kLanes * kLanes; }
  int here(int64_t i) const { return keys - i < kLanes ? static_cast<int>(keys - i) : kLanes; }  // keys of the vector at i that exist
  Vec hide(Vec value, int64_t i, Vec hidden) const {
    value = select(less_signed(iota(), broadcast_int(static_cast<int32_t>(visible - i))), value, hidden);
    if (mask == nullptr) return value;
    int32_t words[kLanes] = {};
    std::memcpy(words, mask + i, static_cast<size_t>(here(i)) * sizeof(int32_t));
    return select(less_unsigned(broadcast_int(0), load_words(words)), value, hidden);
  }
  Vec biased(Vec score, int64_t i) const {
    if (bias == nullptr) return score;
    return score + (here(i) == kLanes ? load(bias + i, Full{}) : load(bias + i, here(i)));
  }
};
inline Sight sight_of(const Sights& all, int64_t row) {
  const int64_t last = all.first_position + row + 1;
  const int64_t visible = all.causal && last < all.keys ? (last < 0 ? 0 : last) : all.keys;
  return {visible, all.keys, all.mask, all.bias == nullptr ? nullptr : all.bias + row * all.bias_stride};
}

template <class T>
inline void softmax_row(const SoftmaxRows& args, int64_t r) {
  const Vec hidden = broadcast(-__builtin_inff()), scale = broadcast(args.sights.scale);
  float* s = args.s + r * args.stride;
  T* p = at<T>(args.p, r * args.stride);
  const Sight seen = sight_of(args.sights, r);
  const int64_t open = seen.open(), end = seen.end();
  const auto score = [&](int64_t i) { return seen.hide(seen.biased(load(s + i, Full{}) * scale, i), i, hidden); };
  Vec tops = hidden;
  for (int64_t i = 0; i < open; i += kLanes) tops = max(tops, load(s + i, Full{}) * scale);
  for (int64_t i = open; i < end; i += kLanes) tops = max(tops, score(i));
  const float top = maximum(tops);
  const bool any = !(top == -__builtin_inff());  // NaN counts as visible and stays NaN
  const Vec base = broadcast(any ? top : 0.0f);
  Vec sums = zeros();
  int64_t i = 0;
  const auto take = [&](Vec e) {
    sums = sums + e;
    store(p + i, e, Full{});
  };
  for (; i < open; i += kLanes) take(exp(load(s + i, Full{}) * scale - base));
  for (; i < end; i += kLanes) take(exp(score(i) - base));
  for (; i < args.padded_keys; i += kLanes) store(p + i, zeros(), Full{});
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
inline void softmax_gradient_row(const SoftmaxGradient& args, int64_t j) {
  const int64_t n = args.padded_queries, at_row = j * n;
  const bool counts = j < args.keys && (args.mask == nullptr || args.mask[j] != 0);
  int64_t first = args.causal ? j - args.first_position : 0;  // the first query that sees key j
  if (first < 0) first = 0;
  if (!counts || first > args.queries) first = args.queries;
  const auto clear = [&](int64_t i) {
    store(at<BFloat16>(args.p, at_row + i), zeros(), Full{});
    store(at<BFloat16>(args.ds, at_row + i), zeros(), Full{});
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
    store(at<BFloat16>(args.p, at_row + i), p, Full{});
    store(at<BFloat16>(args.ds, at_row + i), ds, Full{});
    if (args.keep_ds) store(args.dp + at_row + i, ds, Full{});
  }
  for (; i < n; i += kLanes) clear(i);
}

inline void softmax_gradient(const SoftmaxGradient& args) {
  for (int64_t j = 0; j < args.padded_keys; ++j) softmax_gradient_row(args, j);
}

// Row r: p = exp(scale s + bias - log_sum_exp), ds = p (dp - center), 0 where the query does not see the key.
inline void softmax_gradient_row(const SoftmaxGradientRows& args, int64_t r) {
  float* s = args.s + r * args.stride;
  float* dp = args.dp + r * args.stride;
  const Sight seen = sight_of(args.sights, r);
  const Vec scale = broadcast(args.sights.scale), total = broadcast(args.log_sum_exp[r]), center = broadcast(args.center[r]);
  const int64_t open = seen.open(), end = seen.end();
  int64_t i = 0;
  for (; i < open; i += kLanes) {
    const Vec p = exp(load(s + i, Full{}) * scale - total);
    store(s + i, p, Full{});
    store(dp + i, p * (load(dp + i, Full{}) - center), Full{});
  }
  for (; i < end; i += kLanes) {
    const Vec p = exp(seen.biased(load(s + i, Full{}) * scale, i) - total);
    store(s + i, seen.hide(p, i, zeros()), Full{});
    store(dp + i, seen.hide(p * (load(dp + i, Full{}) - center), i, zeros()), Full{});
  }
  for (; i < args.padded_keys; i += kLanes) {
    store(s + i, zeros(), Full{});
    store(dp + i, zeros(), Full{});
  }
}

inline void softmax_gradient_rows(const SoftmaxGradientRows& args) {
  for (int64_t r = 0; r < args.queries; ++r) softmax_gradient_row(args, r);
}

}  // namespace switchyard::SWITCHYARD_ISA
