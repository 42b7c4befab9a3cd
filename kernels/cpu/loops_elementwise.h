// Loops over elements and rows: conversion, dropout, epilogues, rows, updates. See loops.h; built per SWITCHYARD_ISA.
#pragma once

#include "kernels/cpu/loops.h"
#include "kernels/cpu/simd.h"

namespace switchyard::SWITCHYARD_ISA {

using namespace switchyard::cpu;

// Calls f.operator()<T>() with the C++ type of F32 or BF16.
template <class F>
inline void with_type(Dtype dtype, F f) {
  if (dtype == Dtype::kBF16) {
    f.template operator()<BFloat16>();
  } else {
    f.template operator()<float>();
  }
}

template <class T>
inline T* at(void* p, int64_t i) {
  return static_cast<T*>(p) + i;
}
template <class T>
inline const T* at(const void* p, int64_t i) {
  return static_cast<const T*>(p) + i;
}

// Words as four vectors (rng.h: Random::words): of elements 64 * block .. 64 * block + 63 of a row, or, for rows of up to
// 64 / kRows elements, of kRows rows from `row` on, 4 / kRows vectors each.
struct Words {
  Ints part[4];
};
template <int kRows = 1>
inline Words draw_words(const Draw& draw, int64_t row, int64_t block) {
  // Lane 4 q + j works on counter 4 j + q: the unpacking below then leaves consecutive elements in each vector.
  constexpr int32_t kOrder[kLanes] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  constexpr int kCounters = kLanes / kRows, kShift = kRows == 1 ? 4 : kRows == 2 ? 3 : 2;
  const uint64_t index = draw.first_index + static_cast<uint64_t>(row);
  Ints c0 = (load_words(kOrder) & broadcast_int(kCounters - 1)) + broadcast_int(static_cast<int32_t>(block * 16));
  Ints c1 = broadcast_int(static_cast<int32_t>(draw.step));
  Ints c2 = broadcast_int(static_cast<int32_t>(index)), c3 = broadcast_int(static_cast<int32_t>(index >> 32));
  if constexpr (kRows > 1) {
    const Ints further = shift_right<kShift>(load_words(kOrder));
    c2 = c2 + further;
    c3 = c3 + select(less_unsigned(c2, further), broadcast_int(1), broadcast_int(0));
  }
  const Ints m0 = broadcast_int(static_cast<int32_t>(0xD2511F53u)), m1 = broadcast_int(static_cast<int32_t>(0xCD9E8D57u));
  uint32_t k0 = static_cast<uint32_t>(draw.key), k1 = static_cast<uint32_t>(draw.key >> 32);
  for (int round = 0; round < 10; ++round) {
    Ints low0, high0, low1, high1;
    multiply_wide(m0, c0, low0, high0);
    multiply_wide(m1, c2, low1, high1);
    c0 = high1 ^ c1 ^ broadcast_int(static_cast<int32_t>(k0));
    c2 = high0 ^ c3 ^ broadcast_int(static_cast<int32_t>(k1));
    c1 = low1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const Ints a = unpack_low32(c0, c1), b = unpack_high32(c0, c1), c = unpack_low32(c2, c3), d = unpack_high32(c2, c3);
  return {{unpack_low64(a, c), unpack_high64(a, c), unpack_low64(b, d), unpack_high64(b, d)}};
}

// Calls f(first, count, words) for the vectors of a row.
template <class F>
inline void for_lanes_drawn(const Draw& draw, int64_t row, int64_t n, F f) {
  for (int64_t first = 0; first < n; first += 4 * kLanes) {
    const Words words = draw_words(draw, row, first / (4 * kLanes));
    for (int part = 0; part < 4; ++part) {
      const int64_t i = first + part * kLanes;
      if (i + kLanes <= n) {
        f(i, Full{}, words.part[part]);
      } else if (i < n) {
        f(i, static_cast<int>(n - i), words.part[part]);
      }
    }
  }
}

// Calls f(row, first, count, words) for the vectors of rows 0 .. rows - 1.
template <class F>
inline void for_rows_drawn(const Draw& draw, int64_t rows, int64_t n, F f) {
  int64_t r = 0;
  const auto narrow = [&]<int kRows>() {
    for (; r + kRows <= rows; r += kRows) {
      const Words words = draw_words<kRows>(draw, r, 0);
      for (int part = 0; part < 4; ++part) {
        const int64_t row = r + part * kRows / 4, i = part % (4 / kRows) * kLanes;
        if (i + kLanes <= n) {
          f(row, i, Full{}, words.part[part]);
        } else if (i < n) {
          f(row, i, static_cast<int>(n - i), words.part[part]);
        }
      }
    }
  };
  if (n <= kLanes) {
    narrow.template operator()<4>();
  } else if (n <= 2 * kLanes) {
    narrow.template operator()<2>();
  }
  for (; r < rows; ++r) for_lanes_drawn(draw, r, n, [&](int64_t i, auto count, Ints words) { f(r, i, count, words); });
}

inline Vec drop(const Draw& draw, Ints words, Vec value) {
  return select(less_unsigned(words, broadcast_int(static_cast<int32_t>(draw.threshold))), zeros(), value * broadcast(draw.scale));
}

template <class Y, class X>
inline void convert_floats(void* y, const void* x, int64_t n, bool add) {
  Y* to = at<Y>(y, 0);
  const X* from = at<X>(x, 0);
  for_lanes(n, [&](int64_t i, auto count) {
    const Vec value = load(from + i, count);
    store(to + i, add ? load(to + i, count) + value : value, count);
  });
}

template <class T>
inline double as_double(T value) {
  if constexpr (sizeof(T) == 2)
    return static_cast<double>(static_cast<float>(value));
  else
    return static_cast<double>(value);
}

// With F64 on one side at least. The sum is made in F64 and rounded once.
template <class Y, class X>
inline void convert_doubles(void* y, const void* x, int64_t n, bool add) {
  Y* to = at<Y>(y, 0);
  const X* from = at<X>(x, 0);
  for (int64_t i = 0; i < n; ++i) {
    const double value = add ? as_double(to[i]) + as_double(from[i]) : as_double(from[i]);
    if constexpr (sizeof(Y) == 2)
      to[i] = BFloat16(static_cast<float>(value));
    else
      to[i] = static_cast<Y>(value);
  }
}

inline void convert(void* y, Dtype y_dtype, const void* x, Dtype x_dtype, int64_t n, bool add) {
  if (y_dtype == x_dtype && !add) {
    std::memcpy(y, x, static_cast<size_t>(n * size_of(x_dtype)));
    return;
  }
  if (y_dtype == Dtype::kF64 && x_dtype == Dtype::kF64) return convert_doubles<double, double>(y, x, n, add);
  if (y_dtype == Dtype::kF64) return with_type(x_dtype, [&]<class X>() { convert_doubles<double, X>(y, x, n, add); });
  if (x_dtype == Dtype::kF64) return with_type(y_dtype, [&]<class Y>() { convert_doubles<Y, double>(y, x, n, add); });
  with_type(y_dtype, [&]<class Y>() { with_type(x_dtype, [&]<class X>() { convert_floats<Y, X>(y, x, n, add); }); });
}

inline void add_rows(const AddRows& args) {
  with_type(args.dtype, [&]<class T>() {
    const auto write = [&](int64_t at_element, auto count, Vec value) {
      if (args.a != nullptr) value = load(at<T>(args.a, at_element), count) + value;
      store(at<T>(args.y, at_element), value, count);
    };
    if (args.draw.active) {
      for_rows_drawn(args.draw, args.rows, args.columns, [&](int64_t r, int64_t i, auto count, Ints words) {
        const int64_t element = r * args.columns + i;
        write(element, count, drop(args.draw, words, load(at<T>(args.b, element), count)));
      });
    } else {
      for_lanes(args.rows * args.columns, [&](int64_t i, auto count) { write(i, count, load(at<T>(args.b, i), count)); });
    }
  });
}

inline void jitter_rows(const JitterRows& args) {
  with_type(args.dtype, [&]<class T>() {
    const auto write = [&](int64_t at_element, auto count, Vec value) {
      float* y = args.y + at_element;
      store(y, args.add ? load(y, count) + value : value, count);
    };
    if (args.draw.active) {
      for_rows_drawn(args.draw, args.rows, args.columns, [&](int64_t r, int64_t i, auto count, Ints words) {
        const int64_t element = r * args.columns + i;
        const Vec unit = to_floats(shift_right<8>(words)) * broadcast(0x1p-24f);
        write(element, count, load(at<T>(args.x, element), count) * fma(broadcast(args.draw.scale), unit, broadcast(args.draw.base)));
      });
    } else {
      for_lanes(args.rows * args.columns, [&](int64_t i, auto count) { write(i, count, load(at<T>(args.x, i), count)); });
    }
  });
}

// One row of an epilogue. C, Y and R are the types of c, y and relu_of.
template <class C, class Y, class R>
inline void epilogue_row(const Epilogue& e, int64_t r) {
  const C* c = at<C>(e.c, r * e.c_stride);
  Y* y = at<Y>(e.y, r * e.y_stride);
  const R* relu_of = e.relu_of == nullptr ? nullptr : at<R>(e.relu_of, r * e.relu_of_stride);
  const auto before = [&](int64_t i, auto count) {
    Vec value = load(c + i, count);
    if (e.bias != nullptr) value = value + load(e.bias + i, count);
    return e.relu ? max(zeros(), value) : value;
  };
  const auto after = [&](int64_t i, auto count, Vec value) {
    if (relu_of != nullptr) value = select(less(zeros(), load(relu_of + i, count)), value * broadcast(e.relu_of_scale), zeros());
    store(y + i, e.add ? load(y + i, count) + value : value, count);
  };
  if (e.draw.active) {
    for_lanes_drawn(e.draw, r, e.columns, [&](int64_t i, auto count, Ints words) { after(i, count, drop(e.draw, words, before(i, count))); });
  } else {
    for_lanes(e.columns, [&](int64_t i, auto count) { after(i, count, before(i, count)); });
  }
}

inline void epilogue(const Epilogue& e) {
  with_type(e.c_dtype, [&]<class C>() {
    with_type(e.y_dtype, [&]<class Y>() {
      with_type(e.relu_of_dtype, [&]<class R>() {
        for (int64_t r = 0; r < e.rows; ++r) epilogue_row<C, Y, R>(e, r);
      });
    });
  });
}

inline void dot_rows(float* d, const void* a, const void* b, Dtype dtype, int64_t rows, int64_t columns, int64_t a_stride, int64_t b_stride) {
  with_type(dtype, [&]<class T>() {
    for (int64_t r = 0; r < rows; ++r) {
      Vec total = zeros();
      for_lanes(columns, [&](int64_t i, auto count) { total = fma(load(at<T>(a, r * a_stride + i), count), load(at<T>(b, r * b_stride + i), count), total); });
      d[r] = sum(total);
    }
  });
}

inline float dot(const void* a, const void* b, Dtype dtype, int64_t n) {
  float result = 0;
  dot_rows(&result, a, b, dtype, 1, n, n, n);
  return result;
}

// Rows of a head lie far apart, each a few lines of the cache: they are asked for some rows ahead.
constexpr int64_t kRowsAhead = 8;
template <int kForWriting, class T>
inline void ask_ahead(const T* row, int64_t stride, int64_t columns) {
  for (int64_t i = 0; i < columns; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row + kRowsAhead * stride + i, kForWriting);
}

inline void scale_rows(void* y, Dtype dtype, int64_t y_stride, const float* x, int64_t x_stride, const float* factors, float scale, int64_t rows,
                       int64_t columns) {
  with_type(dtype, [&]<class T>() {
    for (int64_t r = 0; r < rows; ++r) {
      const Vec factor = broadcast(factors == nullptr ? scale : factors[r] * scale);
      if (r + kRowsAhead < rows) ask_ahead<1>(at<T>(y, r * y_stride), y_stride, columns);
      for_lanes(columns, [&](int64_t i, auto count) { store(at<T>(y, r * y_stride + i), load(x + r * x_stride + i, count) * factor, count); });
    }
  });
}

template <class Y, class X>
inline void gather_row(const GatherRows& args, int64_t r) {
  Y* y = at<Y>(args.y, r * args.columns);
  for_lanes(args.columns, [&](int64_t i, auto count) {
    Vec total = zeros();
    for (int64_t k = 0; k < args.choices; ++k) {
      const int64_t row = args.index[r * args.choices + k];
      if (row < 0) continue;
      const Vec x = load(at<X>(args.x, row * args.columns + i), count);
      total = args.weight == nullptr ? total + x : fma(broadcast(args.weight[r * args.choices + k]), x, total);
    }
    store(y + i, args.add ? load(y + i, count) + total : total, count);
  });
}

inline void gather_rows(const GatherRows& args) {
  with_type(args.y_dtype, [&]<class Y>() {
    with_type(args.x_dtype, [&]<class X>() {
      for (int64_t r = 0; r < args.rows; ++r) gather_row<Y, X>(args, r);
    });
  });
}

inline void adamw(float* w, float* m, float* v, const float* g, int64_t n, const AdamWScalars& s) {
  for_lanes(n, [&](int64_t i, auto count) {
    const Vec gradient = load(g + i, count) * broadcast(s.gradient_scale);
    const Vec mean = fma(broadcast(s.rest1), gradient, broadcast(s.beta1) * load(m + i, count));
    const Vec square = fma(broadcast(s.rest2) * gradient, gradient, broadcast(s.beta2) * load(v + i, count));
    const Vec step = mean / broadcast(s.correction1) / (sqrt(square / broadcast(s.correction2)) + broadcast(s.epsilon));
    const Vec old = load(w + i, count);
    store(w + i, old - (broadcast(s.decay) * old + broadcast(s.rate) * step), count);
    store(m + i, mean, count);
    store(v + i, square, count);
  });
}

inline void sgd(float* w, float* momentum, const float* g, int64_t n, const SgdScalars& s) {
  for_lanes(n, [&](int64_t i, auto count) {
    Vec step = load(g + i, count) * broadcast(s.gradient_scale);
    if (momentum != nullptr) {
      step = fma(broadcast(s.momentum), load(momentum + i, count), step);
      store(momentum + i, step, count);
    }
    const Vec old = load(w + i, count);
    store(w + i, old - (broadcast(s.decay) * old + broadcast(s.rate) * step), count);
  });
}

}  // namespace switchyard::SWITCHYARD_ISA
