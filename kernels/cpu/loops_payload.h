// Loops of payloads, with the bits that kernels/payload.h gives them. See loops.h; built per SWITCHYARD_ISA.
#pragma once

#include "kernels/cpu/loops_elementwise.h"
#include "kernels/payload.h"

namespace switchyard::SWITCHYARD_ISA {

// Codes and numbers of sixteen values that are already in units of their block's scale.
template <PayloadFormat kFormat>
struct Codec;

template <>
struct Codec<PayloadFormat::kInt8> {
  static Ints codes(Vec v) { return to_ints(v) & broadcast_int(0xff); }
  static Vec numbers(Ints codes) { return to_floats((codes ^ broadcast_int(0x80)) - broadcast_int(0x80)); }
};

// e4m3_code and e4m3_number of kernels/payload.h; what is scaled by its block's largest value never needs to saturate.
template <>
struct Codec<PayloadFormat::kFp8> {
  static Ints codes(Vec v) {
    const Ints word = as_ints(v), magnitude = word & broadcast_int(0x7fffffff), sign = shift_left<7>(shift_right<31>(word));
    const Ints odd = shift_right<20>(magnitude) & broadcast_int(1);
    const Ints normal = shift_right<20>(magnitude + broadcast_int(0x7ffff) + odd) - broadcast_int(120 << 3);
    const Ints subnormal = to_ints(as_floats(magnitude) * broadcast(512.0f));
    return sign | select(less_signed(magnitude, broadcast_int(0x3c800000)), subnormal, normal);
  }
  static Vec numbers(Ints codes) {
    const Ints magnitude = codes & broadcast_int(0x7f), sign = shift_left<24>(codes & broadcast_int(0x80));
    const Vec normal = as_floats(shift_left<20>(magnitude) + broadcast_int(120 << 23));
    const Vec subnormal = to_floats(magnitude) * broadcast(0x1p-9f);
    const Vec number = select(less_signed(magnitude, broadcast_int(8)), subnormal, normal);
    const Vec finite = select(less_signed(magnitude, broadcast_int(0x7f)), number, broadcast(__builtin_nanf("")));
    return as_floats(as_ints(finite) | sign);
  }
};

// The largest |x|, as bits.
template <class T>
inline uint32_t largest_magnitude(const T* x, int64_t count) {
  Ints largest = broadcast_int(0);
  for_lanes(count, [&](int64_t i, auto lanes) { largest = max(largest, as_ints(load(x + i, lanes)) & broadcast_int(0x7fffffff)); });
  int32_t words[kLanes];
  store_words(words, largest);
  int32_t top = 0;
  for (const int32_t word : words) top = word > top ? word : top;
  return static_cast<uint32_t>(top);
}

struct Squares {
  double lost = 0, sent = 0;
};

template <PayloadFormat kFormat, class T>
inline void quantise_block(uint8_t* codes, float& scale, Squares& row, const T* x, int64_t count) {
  scale = payload_scale(largest_magnitude(x, count), kFormat);
  if (!(scale > 0)) {  // zeros, or NaN, which the norms take over
    std::memset(codes, 0, static_cast<size_t>(count));
    row.lost += static_cast<double>(scale);
    row.sent += static_cast<double>(scale);
    return;
  }
  const Vec inverse = broadcast(1 / scale);
  Vec lost = zeros(), sent = zeros();
  for_lanes(count, [&](int64_t i, auto lanes) {
    const Vec value = load(x + i, lanes), scaled = value * inverse;
    const Ints code = Codec<kFormat>::codes(scaled);
    store_bytes(codes + i, code, lanes);
    const Vec rest = fma(value, inverse, zeros() - Codec<kFormat>::numbers(code));
    lost = fma(rest, rest, lost);
    sent = fma(scaled, scaled, sent);
  });
  const double square = static_cast<double>(scale) * static_cast<double>(scale);
  row.lost = __builtin_fma(square, static_cast<double>(sum(lost)), row.lost);
  row.sent = __builtin_fma(square, static_cast<double>(sum(sent)), row.sent);
}

// As one quiet NaN, whatever made it.
inline float norm_of(double squares) { return squares >= 0 ? static_cast<float>(__builtin_sqrt(squares)) : __builtin_nanf(""); }

template <PayloadFormat kFormat, class T>
inline void quantise_row(const QuantiseRows& args, int64_t r) {
  const int64_t n = args.columns;
  const PayloadRow<int32_t> row(args.payload + r * payload_words(n), n);
  Squares squares;
  for (int64_t first = 0; first < n; first += kPayloadBlock) {
    const int64_t count = n - first < kPayloadBlock ? n - first : kPayloadBlock;
    quantise_block<kFormat>(row.codes + first, row.scales[first / kPayloadBlock], squares, at<T>(args.x, r * n + first), count);
  }
  std::memset(row.codes + n, 0, static_cast<size_t>((4 - n % 4) % 4));
  row.norms[0] = norm_of(squares.lost);
  row.norms[1] = norm_of(squares.sent);
  if (args.norms != nullptr) std::memcpy(args.norms + 2 * r, row.norms, 2 * sizeof(float));
}

template <PayloadFormat kFormat, class T>
inline void dequantise_row(const DequantiseRows& args, int64_t r) {
  const int64_t n = args.columns;
  const PayloadRow<const int32_t> row(args.payload + r * payload_words(n), n);
  for (int64_t first = 0; first < n; first += kPayloadBlock) {
    const Vec scale = broadcast(row.scales[first / kPayloadBlock]);
    const uint8_t* codes = row.codes + first;
    T* y = at<T>(args.y, r * n + first);
    for_lanes(n - first < kPayloadBlock ? n - first : kPayloadBlock,
              [&](int64_t i, auto lanes) { store(y + i, Codec<kFormat>::numbers(load_bytes(codes + i, lanes)) * scale, lanes); });
  }
  if (args.norms != nullptr) std::memcpy(args.norms + 2 * r, row.norms, 2 * sizeof(float));
}

// Calls f.operator()<format>() with the format as a constant.
template <class F>
inline void with_format(PayloadFormat format, F f) {
  if (format == PayloadFormat::kFp8) {
    f.template operator()<PayloadFormat::kFp8>();
  } else {
    f.template operator()<PayloadFormat::kInt8>();
  }
}

inline void quantise(const QuantiseRows& args) {
  with_format(args.format, [&]<PayloadFormat kFormat>() {
    with_type(args.dtype, [&]<class T>() {
      for (int64_t r = 0; r < args.rows; ++r) quantise_row<kFormat, T>(args, r);
    });
  });
}

inline void dequantise(const DequantiseRows& args) {
  with_format(args.format, [&]<PayloadFormat kFormat>() {
    with_type(args.dtype, [&]<class T>() {
      for (int64_t r = 0; r < args.rows; ++r) dequantise_row<kFormat, T>(args, r);
    });
  });
}

}  // namespace switchyard::SWITCHYARD_ISA
