// Element types. dtype is a property of a tensor at run time; kernels dispatch on it once, at their door.
#pragma once

#include <bit>
#include <cstdint>

namespace switchyard {

enum class Dtype : uint8_t { kF64, kF32, kBF16, kI32 };

constexpr int64_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF64: return 8;
    case Dtype::kF32: return 4;
    case Dtype::kBF16: return 2;
    case Dtype::kI32: return 4;
  }
  return 0;
}

// The names that safetensors uses.
constexpr const char* name(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF64: return "F64";
    case Dtype::kF32: return "F32";
    case Dtype::kBF16: return "BF16";
    case Dtype::kI32: return "I32";
  }
  return "?";
}

// The upper half of a float. Conversion rounds to nearest, ties to even; NaN stays NaN.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  explicit BFloat16(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    const bool nan = (word & 0x7fffffffu) > 0x7f800000u;
    const uint32_t rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
    bits = static_cast<uint16_t>(nan ? (word >> 16) | 0x40u : rounded);
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
  explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
};
static_assert(sizeof(BFloat16) == 2);

template <class T> struct DtypeOf;
template <> struct DtypeOf<double> { static constexpr Dtype value = Dtype::kF64; };
template <> struct DtypeOf<float> { static constexpr Dtype value = Dtype::kF32; };
template <> struct DtypeOf<BFloat16> { static constexpr Dtype value = Dtype::kBF16; };
template <> struct DtypeOf<int32_t> { static constexpr Dtype value = Dtype::kI32; };

}  // namespace switchyard
