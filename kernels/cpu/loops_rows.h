// Loops with a sum in them: sums, norms, softmax, cross-entropy. See loops.h; built per SWITCHYARD_ISA.
#pragma once

#include "kernels/cpu/loops_elementwise.h"

namespace switchyard::SWITCHYARD_ISA {

// Sixteen partial sums, element i in sum i % 16, then added in order of lanes.
template <class T>
inline double sum_of(const T* x, int64_t n, bool squares) {
  double partial[kLanes] = {};
  const auto take = [&](int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const double value = as_double(x[first + i]);
      partial[i] += squares ? value * value : value;
    }
  };
  int64_t first = 0;
  for (; first + kLanes <= n; first += kLanes) take(first, kLanes);
  take(first, n - first);
  double total = 0;
  for (const double value : partial) total += value;
  return total;
}

inline double sum(const void* x, Dtype dtype, int64_t n, bool squares) {
  if (dtype == Dtype::kF64) return sum_of(at<double>(x, 0), n, squares);
  double total = 0;
  with_type(dtype, [&]<class T>() { total = sum_of(at<T>(x, 0), n, squares); });
  return total;
}

// Columns [first, first + kLanes * kVectors) of x, summed in F64.
template <int kVectors, class T>
inline void sum_column_block(float* y, const T* x, int64_t rows, int64_t stride, bool add) {
  double total[kLanes * kVectors] = {};
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kLanes * kVectors; ++i) total[i] += as_double(x[r * stride + i]);
  }
  for (int i = 0; i < kLanes * kVectors; ++i) y[i] = static_cast<float>(total[i]) + (add ? y[i] : 0.0f);
}

inline void sum_columns(float* y, const void* x, Dtype dtype, int64_t rows, int64_t columns, int64_t stride, bool add) {
  with_type(dtype, [&]<class T>() {
    int64_t first = 0;
    for (; first + 2 * kLanes <= columns; first += 2 * kLanes) sum_column_block<2>(y + first, at<T>(x, first), rows, stride, add);
    for (; first < columns; ++first) {
      double total = 0;
      for (int64_t r = 0; r < rows; ++r) total += as_double(*at<T>(x, r * stride + first));
      y[first] = static_cast<float>(total) + (add ? y[first] : 0.0f);
    }
  });
}

template <class T>
inline void norm_forward_row(const NormRows& args, int64_t r) {
  const int64_t n = args.columns;
  const T* x = at<T>(args.x, r * n);
  T* y = at<T>(args.y, r * n);
  float mean = 0;
  if (args.centered) {
    Vec total = zeros();
    for_lanes(n, [&](int64_t i, auto count) { total = total + load(x + i, count); });
    mean = sum(total) / static_cast<float>(n);
  }
  const Vec center = broadcast(mean);
  Vec squares = zeros();
  for_lanes(n, [&](int64_t i, auto count) {
    const Vec value = keep_lanes(load(x + i, count) - center, count, zeros());
    squares = fma(value, value, squares);
  });
  const float rstd = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(n) + args.epsilon);
  args.statistics[2 * r] = mean;
  args.statistics[2 * r + 1] = rstd;
  const Vec factor = broadcast(rstd);
  for_lanes(n, [&](int64_t i, auto count) {
    Vec value = (load(x + i, count) - center) * factor * load(args.scale + i, count);
    if (args.bias != nullptr) value = value + load(args.bias + i, count);
    store(y + i, value, count);
  });
}

inline void norm_forward(const NormRows& args) {
  with_type(args.dtype, [&]<class T>() {
    for (int64_t r = 0; r < args.rows; ++r) norm_forward_row<T>(args, r);
  });
}

// With h = (x - mean) rstd and g = dy * scale: dx = rstd (g - mean(g) - h mean(g h)); RMSNorm has no mean(g).
template <class T>
inline void norm_backward_row(const NormRows& args, int64_t r) {
  const int64_t n = args.columns;
  const T* x = at<T>(args.x, r * n);
  const T* dy = at<T>(args.dy, r * n);
  T* dx = at<T>(args.dx, r * n);
  const Vec center = broadcast(args.statistics[2 * r]), rstd = broadcast(args.statistics[2 * r + 1]);
  Vec sum_g = zeros(), sum_gh = zeros();
  for_lanes(n, [&](int64_t i, auto count) {
    const Vec d = load(dy + i, count), h = (load(x + i, count) - center) * rstd;
    const Vec g = d * load(args.scale + i, count);
    sum_g = sum_g + g;
    sum_gh = fma(g, h, sum_gh);
    store(args.dscale + i, fma(d, h, load(args.dscale + i, count)), count);
    if (args.dbias != nullptr) store(args.dbias + i, load(args.dbias + i, count) + d, count);
  });
  const Vec mean_g = broadcast(args.centered ? sum(sum_g) / static_cast<float>(n) : 0.0f);
  const Vec mean_gh = broadcast(sum(sum_gh) / static_cast<float>(n));
  for_lanes(n, [&](int64_t i, auto count) {
    const Vec h = (load(x + i, count) - center) * rstd;
    const Vec value = rstd * (load(dy + i, count) * load(args.scale + i, count) - mean_g - h * mean_gh);
    store(dx + i, args.add ? load(dx + i, count) + value : value, count);
  });
}

inline void norm_backward(const NormRows& args) {
  for (int64_t i = 0; i < args.columns; ++i) {
    args.dscale[i] = 0;
    if (args.dbias != nullptr) args.dbias[i] = 0;
  }
  with_type(args.dtype, [&]<class T>() {
    for (int64_t r = 0; r < args.rows; ++r) norm_backward_row<T>(args, r);
  });
}

template <class T>
inline float largest_of(const T* x, int64_t n) {
  const Vec lowest = broadcast(-__builtin_inff());
  Vec top = lowest;
  for_lanes(n, [&](int64_t i, auto count) { top = max(top, keep_lanes(load(x + i, count), count, lowest)); });
  return maximum(top);
}

inline void softmax(float* p, float* log_sum_exp, const float* logits, int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = logits + r * n;
    float* y = p + r * n;
    const float top = largest_of(x, n);
    Vec total = zeros();
    for_lanes(n, [&](int64_t i, auto count) {
      const Vec e = keep_lanes(exp(load(x + i, count) - broadcast(top)), count, zeros());
      total = total + e;
      store(y + i, e, count);
    });
    const float whole = sum(total);
    for_lanes(n, [&](int64_t i, auto count) { store(y + i, load(y + i, count) / broadcast(whole), count); });
    log_sum_exp[r] = top + __builtin_logf(whole);
  }
}

inline double entropy(const float* p, int64_t n) {
  double total = 0;
  for_lanes(n, [&](int64_t i, auto count) {
    const Vec value = load(p + i, count);
    const Vec term = select(less(zeros(), value), value * log(value), zeros());
    float terms[kLanes];
    store(terms, term, Full{});
    for (const float one : terms) total -= static_cast<double>(one);
  });
  return total;
}

template <class T>
inline void cross_entropy_typed(const CrossEntropyRow& args) {
  T* x = at<T>(args.row, 0);
  const int64_t n = args.columns, t = args.target;
  const float top = largest_of(static_cast<const T*>(x), n);
  Vec sums = zeros();
  for_lanes(n, [&](int64_t i, auto count) {
    const Vec e = keep_lanes(exp(load(x + i, count) - broadcast(top)), count, zeros());
    sums = sums + e;
    if (args.gradient) store(args.scratch + i, e, count);
  });
  const float whole = sum(sums), wanted = static_cast<float>(x[t]);
  const float total = top + __builtin_logf(whole);
  *args.loss = args.scale * (total - wanted + args.z * total * total);
  bool first = wanted == top;
  for (int64_t i = 0; first && i < t; ++i) first = static_cast<float>(x[i]) != top;
  *args.correct = first ? 1 : 0;
  if (!args.gradient) return;
  const float factor = args.scale * (1.0f + 2.0f * args.z * total) / whole;
  const float at_target = factor * args.scratch[t] - args.scale;
  for_lanes(n, [&](int64_t i, auto count) { store(x + i, load(args.scratch + i, count) * broadcast(factor), count); });
  x[t] = T(at_target);
}

inline void cross_entropy_row(const CrossEntropyRow& args) {
  with_type(args.dtype, [&]<class T>() { cross_entropy_typed<T>(args); });
}

}  // namespace switchyard::SWITCHYARD_ISA
