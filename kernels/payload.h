// Payloads: rows of activations in fewer bytes, for the way between ranks.
//
// A row of D elements is cut into blocks of kPayloadBlock, the last of which may be short. Every element has a byte, its
// code, and every block an F32 scale. In F32, every operation rounded to the nearest, ties to even:
//
//   scale = max(max |x| / limit, smallest normal number), 0 where all x are 0       limit: 127 or 448
//   code  = x * (1 / scale), rounded to the nearest number of the format, ties to even
//   y     = number(code) * scale, rounded to activation
//
// So y = 0 where x = 0, and a block of zeros is zeros. A block with an element that is not finite has the scale NaN and the
// codes 0: all of it arrives as NaN. F64 is rounded to F32 first.
//
// A row of payload is words of 32 bits, opaque to all but a backend:
//   codes, a byte each, zeros up to a whole word;  a scale for each block;  the row's norms
//
// The norms are F32 2-norms of the row: of what it loses, x - number(code) * scale, and of x. They travel with it so that
// both ends of a way know them. A block's sums of squares are made in F32 in units of its scale, of
// x * (1 / scale) - number(code), fused, and of x * (1 / scale): sixteen sums, element i in sum i % 16 by fused products, then
// added in pairs (i, i + 8), (i, i + 4), (i, i + 2), (i, i + 1). The row's are fused sums in F64 of scale^2 times them, blocks
// in order; NaN where a scale is.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/rng.h"  // SWITCHYARD_HOST_DEVICE

namespace switchyard {

enum class PayloadFormat : uint8_t {
  kPlain,  // activations as they are; no backend is asked to convert to it
  kInt8,   // whole numbers from -127 to 127
  kFp8,    // E4M3: sign, 4 bits of exponent with bias 7, 3 of fraction, no infinity, 0x7f is NaN (OCP 8-bit formats)
};

inline constexpr int64_t kPayloadBlock = 64;

constexpr int64_t payload_blocks(int64_t columns) { return (columns + kPayloadBlock - 1) / kPayloadBlock; }
// 32-bit words of one row of payload.
constexpr int64_t payload_words(int64_t columns) { return (columns + 3) / 4 + payload_blocks(columns) + 2; }

constexpr float payload_limit(PayloadFormat format) { return format == PayloadFormat::kFp8 ? 448.0f : 127.0f; }

inline constexpr uint32_t kInfinityBits = 0x7f800000u;

// `largest`: the largest |x| of the block, as bits, so that NaN is larger than infinity and that than any number.
SWITCHYARD_HOST_DEVICE inline float payload_scale(uint32_t largest, PayloadFormat format) {
  if (largest >= kInfinityBits) return std::numeric_limits<float>::quiet_NaN();
  if (largest == 0) return 0;
  return std::max(std::bit_cast<float>(largest) / payload_limit(format), std::numeric_limits<float>::min());
}

// Where the parts of one row of payload lie.
template <class Word>
struct PayloadRow {
  using Byte = std::conditional_t<std::is_const_v<Word>, const uint8_t, uint8_t>;
  using Real = std::conditional_t<std::is_const_v<Word>, const float, float>;

  SWITCHYARD_HOST_DEVICE PayloadRow(Word* row, int64_t columns)
      : codes(reinterpret_cast<Byte*>(row)), scales(reinterpret_cast<Real*>(row + (columns + 3) / 4)), norms(scales + payload_blocks(columns)) {}

  Byte* codes;   // [columns]
  Real* scales;  // [payload_blocks(columns)]
  Real* norms;   // [2]: of what is lost, and of x
};

// The nearest E4M3 number, ties to even. Saturates at 448; NaN stays NaN.
SWITCHYARD_HOST_DEVICE inline uint8_t e4m3_code(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value), magnitude = word & 0x7fffffffu, sign = word >> 31 << 7;
  if (magnitude > kInfinityBits) return static_cast<uint8_t>(sign | 0x7f);
  // Below 2^-6 the numbers are the multiples of 2^-9; above, the upper bits of a float with another bias.
  const uint32_t code = magnitude < 0x3c800000u ? static_cast<uint32_t>(std::nearbyint(std::bit_cast<float>(magnitude) * 512.0f))
                                                : ((magnitude + 0x7ffffu + (magnitude >> 20 & 1)) >> 20) - (120u << 3);
  return static_cast<uint8_t>(sign | std::min(code, 0x7eu));
}

SWITCHYARD_HOST_DEVICE inline float e4m3_number(uint8_t code) {
  const uint32_t magnitude = code & 0x7fu;
  if (magnitude == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  const float number = magnitude < 8 ? static_cast<float>(magnitude) * 0x1p-9f : std::bit_cast<float>((magnitude << 20) + (120u << 23));
  return code & 0x80u ? -number : number;
}

// Of a value in units of its block's scale.
SWITCHYARD_HOST_DEVICE inline uint8_t payload_code(float value, PayloadFormat format) {
  return format == PayloadFormat::kFp8 ? e4m3_code(value) : static_cast<uint8_t>(static_cast<int8_t>(std::nearbyint(value)));
}

SWITCHYARD_HOST_DEVICE inline float payload_number(uint8_t code, PayloadFormat format) {
  return format == PayloadFormat::kFp8 ? e4m3_number(code) : static_cast<float>(static_cast<int8_t>(code));
}

}  // namespace switchyard
