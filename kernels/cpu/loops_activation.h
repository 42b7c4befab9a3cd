// The hidden elements of a feed-forward layer, both ways. See loops.h; built per SWITCHYARD_ISA.
#pragma once

#include "kernels/cpu/loops_elementwise.h"

namespace switchyard::SWITCHYARD_ISA {

// With z = sqrt(2 / pi) (x + 0.044715 x^3), e = exp(-2 z) and s = 1 / (1 + e):
//   (1 + tanh z) / 2 = s;  gelu(x) = x s;  gelu'(x) = s + x e s^2 2 z'
// Nothing is subtracted, so nothing cancels. s is 0 or 1 beyond kSaturated, where squares could still overflow.
struct Gelu {
  Vec value, slope;
};
inline Gelu gelu(Vec x) {
  constexpr float kSaturated = 20.0f, kScale = 0.79788456080286535588f, kCubic = 0.044715f;
  const Vec bounded = min(broadcast(kSaturated), max(broadcast(-kSaturated), x));  // NaN stays NaN
  const Vec square = bounded * bounded;
  const Vec e = exp(bounded * fma(square, broadcast(-2.0f * kScale * kCubic), broadcast(-2.0f * kScale)));
  const Vec s = broadcast(1.0f) / (broadcast(1.0f) + e);
  const Vec twice_dz = fma(square, broadcast(6.0f * kScale * kCubic), broadcast(2.0f * kScale));
  return {x * s, fma(bounded * (e * s) * s, twice_dz, s)};
}

inline Vec activation_of(bool is_gelu, Vec u) { return is_gelu ? gelu(u).value : max(zeros(), u); }

template <class T>
inline void activate_row(const ActivateRows& args, int64_t r) {
  const int64_t row = r * args.columns;
  const T* u = at<T>(args.u, row);
  const T* gate = args.gate == nullptr ? nullptr : at<T>(args.gate, row);
  T* h = at<T>(args.h, row);
  const bool is_gelu = args.gelu;
  const auto value = [&](int64_t i, auto count) {
    const Vec active = activation_of(is_gelu, load(u + i, count));
    return gate == nullptr ? active : active * load(gate + i, count);
  };
  if (args.draw.active) {
    for_lanes_drawn(args.draw, r, args.columns, [&](int64_t i, auto count, Ints words) { store(h + i, drop(args.draw, words, value(i, count)), count); });
  } else {
    for_lanes(args.columns, [&](int64_t i, auto count) { store(h + i, value(i, count), count); });
  }
}

inline void activate(const ActivateRows& args) {
  with_type(args.dtype, [&]<class T>() {
    for (int64_t r = 0; r < args.rows; ++r) activate_row<T>(args, r);
  });
}

template <class T>
inline void activate_backward_row(const ActivateRows& args, int64_t r) {
  const int64_t row = r * args.columns;
  const T* u = at<T>(args.u, row);
  const T* gate = args.gate == nullptr ? nullptr : at<T>(args.gate, row);
  const T* dh = at<T>(args.dh, row);
  T* du = at<T>(args.du, row);
  T* dgate = gate == nullptr ? nullptr : at<T>(args.dgate, row);
  const bool is_gelu = args.gelu;
  const auto write = [&](int64_t i, auto count, Vec d) {
    const Vec x = load(u + i, count);
    const Gelu active = is_gelu ? gelu(x) : Gelu{max(zeros(), x), select(less(zeros(), x), broadcast(1.0f), zeros())};
    if (gate != nullptr) {
      store(dgate + i, d * active.value, count);
      d = d * load(gate + i, count);
    }
    store(du + i, d * active.slope, count);
  };
  if (args.draw.active) {
    for_lanes_drawn(args.draw, r, args.columns, [&](int64_t i, auto count, Ints words) { write(i, count, drop(args.draw, words, load(dh + i, count))); });
  } else {
    for_lanes(args.columns, [&](int64_t i, auto count) { write(i, count, load(dh + i, count)); });
  }
}

inline void activate_backward(const ActivateRows& args) {
  with_type(args.dtype, [&]<class T>() {
    for (int64_t r = 0; r < args.rows; ++r) activate_backward_row<T>(args, r);
  });
}

}  // namespace switchyard::SWITCHYARD_ISA
