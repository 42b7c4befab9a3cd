// One logical vector of 16 floats, written once and compiled twice: as one 512-bit register for x86-64-v4 and as two
// 256-bit registers for x86-64-v3. Both give the same bits: nothing here depends on the width of a register, products
// are fused only where fma() says so, and reductions have one order of lanes.
//
// Included by loops_v3.cpp and loops_v4.cpp only, which define SWITCHYARD_ISA, the namespace of their build.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"

namespace switchyard::SWITCHYARD_ISA {

inline constexpr int kLanes = 16;

// The number of lanes of a whole vector, as a type: load and store of a tail take an int instead.
struct Full {};

#if defined(__AVX512F__)

struct Vec {
  __m512 v;
};
struct Ints {
  __m512i v;
};
struct Mask {
  __mmask16 m;
};

#define SWITCHYARD_BINARY(type, function, instruction) \
  inline type function(type a, type b) { return {_mm512_##instruction(a.v, b.v)}; }
#define SWITCHYARD_BITWISE(function, instruction) \
  inline Ints function(Ints a, Ints b) { return {_mm512_##instruction##_si512(a.v, b.v)}; }

inline Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline Ints broadcast_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
inline Vec as_floats(Ints a) { return {_mm512_castsi512_ps(a.v)}; }
inline Ints as_ints(Vec a) { return {_mm512_castps_si512(a.v)}; }
inline Vec to_floats(Ints a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline Ints to_ints(Vec a) { return {_mm512_cvtps_epi32(a.v)}; }  // nearest, ties to even
template <int kBits>
inline Ints shift_left(Ints a) {
  return {_mm512_slli_epi32(a.v, kBits)};
}
template <int kBits>
inline Ints shift_right(Ints a) {
  return {_mm512_srli_epi32(a.v, kBits)};
}
inline Mask less(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline Mask unordered(Vec a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
inline Mask less_unsigned(Ints a, Ints b) { return {_mm512_cmplt_epu32_mask(a.v, b.v)}; }
inline Mask less_signed(Ints a, Ints b) { return {_mm512_cmplt_epi32_mask(a.v, b.v)}; }
inline Vec select(Mask m, Vec yes, Vec no) { return {_mm512_mask_blend_ps(m.m, no.v, yes.v)}; }
inline Ints select(Mask m, Ints yes, Ints no) { return {_mm512_mask_blend_epi32(m.m, no.v, yes.v)}; }
// Low and high halves of the 32 x 32 bit products.
inline void multiply_wide(Ints a, Ints b, Ints& low, Ints& high) {
  const __m512i even = _mm512_mul_epu32(a.v, b.v);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), _mm512_srli_epi64(b.v, 32));
  low.v = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
  high.v = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
}
inline Vec load(const float* p, Full) { return {_mm512_loadu_ps(p)}; }
inline Vec load(const float* p, int count) { return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p)}; }
inline void store(float* p, Vec a, Full) { _mm512_storeu_ps(p, a.v); }
inline void store(float* p, Vec a, int count) { _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), a.v); }
inline Ints load_words(const void* p) { return {_mm512_loadu_si512(p)}; }
inline void store_words(void* p, Ints a) { _mm512_storeu_si512(p, a.v); }
inline Ints load_halves(const uint16_t* p) { return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
inline void store_halves(uint16_t* p, Ints a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(a.v)); }
inline Ints load_bytes(const uint8_t* p, Full) { return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
inline void store_bytes(uint8_t* p, Ints a, Full) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v)); }
inline void split(Vec a, __m256& low, __m256& high) {
  low = _mm512_castps512_ps256(a.v);
  high = _mm512_extractf32x8_ps(a.v, 1);
}

#else

struct Vec {
  __m256 lo, hi;
};
struct Ints {
  __m256i lo, hi;
};
struct Mask {
  __m256i lo, hi;
};

#define SWITCHYARD_BINARY(type, function, instruction) \
  inline type function(type a, type b) { return {_mm256_##instruction(a.lo, b.lo), _mm256_##instruction(a.hi, b.hi)}; }
#define SWITCHYARD_BITWISE(function, instruction) \
  inline Ints function(Ints a, Ints b) { return {_mm256_##instruction##_si256(a.lo, b.lo), _mm256_##instruction##_si256(a.hi, b.hi)}; }

inline Vec broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Ints broadcast_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
inline Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
inline Vec as_floats(Ints a) { return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)}; }
inline Ints as_ints(Vec a) { return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)}; }
inline Vec to_floats(Ints a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
inline Ints to_ints(Vec a) { return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }  // nearest, ties to even
template <int kBits>
inline Ints shift_left(Ints a) {
  return {_mm256_slli_epi32(a.lo, kBits), _mm256_slli_epi32(a.hi, kBits)};
}
template <int kBits>
inline Ints shift_right(Ints a) {
  return {_mm256_srli_epi32(a.lo, kBits), _mm256_srli_epi32(a.hi, kBits)};
}
template <int kCompare>
inline Mask compare(Vec a, Vec b) {
  return {_mm256_castps_si256(_mm256_cmp_ps(a.lo, b.lo, kCompare)), _mm256_castps_si256(_mm256_cmp_ps(a.hi, b.hi, kCompare))};
}
inline Mask less(Vec a, Vec b) { return compare<_CMP_LT_OQ>(a, b); }
inline Mask unordered(Vec a) { return compare<_CMP_UNORD_Q>(a, a); }
inline Mask less_signed(Ints a, Ints b) { return {_mm256_cmpgt_epi32(b.lo, a.lo), _mm256_cmpgt_epi32(b.hi, a.hi)}; }
inline Mask less_unsigned(Ints a, Ints b) {
  const __m256i sign = _mm256_set1_epi32(INT32_MIN);
  return less_signed({_mm256_xor_si256(a.lo, sign), _mm256_xor_si256(a.hi, sign)}, {_mm256_xor_si256(b.lo, sign), _mm256_xor_si256(b.hi, sign)});
}
inline Vec select(Mask m, Vec yes, Vec no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, _mm256_castsi256_ps(m.lo)), _mm256_blendv_ps(no.hi, yes.hi, _mm256_castsi256_ps(m.hi))};
}
inline Ints select(Mask m, Ints yes, Ints no) { return {_mm256_blendv_epi8(no.lo, yes.lo, m.lo), _mm256_blendv_epi8(no.hi, yes.hi, m.hi)}; }
inline void multiply_wide(__m256i a, __m256i b, __m256i& low, __m256i& high) {
  const __m256i even = _mm256_mul_epu32(a, b);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
  low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
  high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}
// Low and high halves of the 32 x 32 bit products.
inline void multiply_wide(Ints a, Ints b, Ints& low, Ints& high) {
  multiply_wide(a.lo, b.lo, low.lo, high.lo);
  multiply_wide(a.hi, b.hi, low.hi, high.hi);
}
inline Vec load(const float* p, Full) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline Vec load(const float* p, int count) {
  float padded[kLanes] = {};
  std::memcpy(padded, p, static_cast<size_t>(count) * sizeof(float));
  return load(padded, Full{});
}
inline void store(float* p, Vec a, Full) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
inline void store(float* p, Vec a, int count) {
  float padded[kLanes];
  store(padded, a, Full{});
  std::memcpy(p, padded, static_cast<size_t>(count) * sizeof(float));
}
inline Ints load_words(const void* p) {
  const auto* q = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
inline void store_words(void* p, Ints a) {
  auto* q = static_cast<__m256i*>(p);
  _mm256_storeu_si256(q, a.lo);
  _mm256_storeu_si256(q + 1, a.hi);
}
inline Ints load_halves(const uint16_t* p) {
  const auto* q = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), _mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1))};
}
inline void store_halves(uint16_t* p, Ints a) {
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(a.lo, a.hi), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed);
}
inline Ints load_bytes(const uint8_t* p, Full) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
// Lanes from 0 to 255.
inline void store_bytes(uint8_t* p, Ints a, Full) {
  const __m256i halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(a.lo, a.hi), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
}
inline void split(Vec a, __m256& low, __m256& high) {
  low = a.lo;
  high = a.hi;
}

#endif

SWITCHYARD_BINARY(Vec, operator+, add_ps)
SWITCHYARD_BINARY(Vec, operator-, sub_ps)
SWITCHYARD_BINARY(Vec, operator*, mul_ps)
SWITCHYARD_BINARY(Vec, operator/, div_ps)
SWITCHYARD_BINARY(Vec, max, max_ps)  // b where one is NaN
SWITCHYARD_BINARY(Vec, min, min_ps)  // b where one is NaN
SWITCHYARD_BINARY(Ints, operator+, add_epi32)
SWITCHYARD_BINARY(Ints, operator-, sub_epi32)
SWITCHYARD_BINARY(Ints, max, max_epi32)
SWITCHYARD_BINARY(Ints, unpack_low32, unpacklo_epi32)
SWITCHYARD_BINARY(Ints, unpack_high32, unpackhi_epi32)
SWITCHYARD_BINARY(Ints, unpack_low64, unpacklo_epi64)
SWITCHYARD_BINARY(Ints, unpack_high64, unpackhi_epi64)
SWITCHYARD_BITWISE(operator^, xor)
SWITCHYARD_BITWISE(operator|, or)
SWITCHYARD_BITWISE(operator&, and)
#undef SWITCHYARD_BINARY
#undef SWITCHYARD_BITWISE

inline Ints load_bytes(const uint8_t* p, int count) {
  uint8_t padded[kLanes] = {};
  std::memcpy(padded, p, static_cast<size_t>(count));
  return load_bytes(padded, Full{});
}
inline void store_bytes(uint8_t* p, Ints a, int count) {
  uint8_t padded[kLanes];
  store_bytes(padded, a, Full{});
  std::memcpy(p, padded, static_cast<size_t>(count));
}
inline Vec zeros() { return broadcast(0.0f); }
inline Ints iota() {
  constexpr int32_t kNumbers[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return load_words(kNumbers);
}
// Lanes below `count` keep their value, the others get `other`.
inline Vec keep_lanes(Vec a, int count, Vec other) { return select(less_signed(iota(), broadcast_int(count)), a, other); }
inline Vec keep_lanes(Vec a, Full, Vec) { return a; }

// ---- BF16 ----------------------------------------------------------------------------------------------------

// The 16 bits of each lane, as BFloat16's constructor rounds them.
inline Ints bf16_bits(Vec a) {
  const Ints word = as_ints(a);
  const Ints rounded = shift_right<16>(word + broadcast_int(0x7fff) + (shift_right<16>(word) & broadcast_int(1)));
  return select(unordered(a), shift_right<16>(word) | broadcast_int(0x40), rounded);
}
inline Vec from_bf16_bits(Ints a) { return as_floats(shift_left<16>(a)); }
inline Vec load(const BFloat16* p, Full) { return from_bf16_bits(load_halves(reinterpret_cast<const uint16_t*>(p))); }
inline Vec load(const BFloat16* p, int count) {
  uint16_t padded[kLanes] = {};
  std::memcpy(padded, p, static_cast<size_t>(count) * sizeof(uint16_t));
  return from_bf16_bits(load_halves(padded));
}
inline void store(BFloat16* p, Vec a, Full) { store_halves(reinterpret_cast<uint16_t*>(p), bf16_bits(a)); }
inline void store(BFloat16* p, Vec a, int count) {
  uint16_t padded[kLanes];
  store_halves(padded, bf16_bits(a));
  std::memcpy(p, padded, static_cast<size_t>(count) * sizeof(uint16_t));
}

// ---- reductions ------------------------------------------------------------------------------------------------

// Pairs (i, i + 8), then (i, i + 4), (i, i + 2), (i, i + 1).
inline float sum(Vec a) {
  __m256 low, high;
  split(a, low, high);
  const __m256 eight = _mm256_add_ps(low, high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float maximum(Vec a) {
  __m256 low, high;
  split(a, low, high);
  const __m256 eight = _mm256_max_ps(low, high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// ---- functions -------------------------------------------------------------------------------------------------

// e^x to about 1e-7 relative (Cephes' polynomial); 0 below -87, NaN stays NaN. Nothing on the way is subnormal, hidden lanes
// included: one such number costs more than the rest of a row.
inline Vec exp(Vec x) {
  const Vec lowest = broadcast(-87.0f);
  const Vec bounded = min(broadcast(88.3762626647949f), max(lowest, x));
  const Ints n = to_ints(bounded * broadcast(1.44269504088896341f));
  const Vec whole = to_floats(n);
  const Vec r = fma(whole, broadcast(2.12194440e-4f), fma(whole, broadcast(-0.693359375f), bounded));
  Vec p = broadcast(1.9875691500e-4f);
  p = fma(p, r, broadcast(1.3981999507e-3f));
  p = fma(p, r, broadcast(8.3334519073e-3f));
  p = fma(p, r, broadcast(4.1665795894e-2f));
  p = fma(p, r, broadcast(1.6666665459e-1f));
  p = fma(p, r, broadcast(5.0000001201e-1f));
  p = fma(p, r * r, r) + broadcast(1.0f);
  const Vec power = as_floats(shift_left<23>(n + broadcast_int(127)));
  return select(less(x, lowest), zeros(), p * power);
}

// ln x for normal positive x, to about 1e-7 relative (Cephes' polynomial).
inline Vec log(Vec x) {
  const Ints bits = as_ints(x);
  Ints exponent = shift_right<23>(bits) - broadcast_int(126);
  Vec m = as_floats((bits & broadcast_int(0x007fffff)) | broadcast_int(0x3f000000));  // [0.5, 1)
  const Mask low = less(m, broadcast(0.70710678f));
  exponent = select(low, exponent - broadcast_int(1), exponent);
  m = select(low, m + m, m) - broadcast(1.0f);
  constexpr float kTerms[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f, 1.4249322787e-1f,
                              -1.6668057665e-1f, 2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
  Vec p = broadcast(kTerms[0]);
  for (int i = 1; i < 9; ++i) p = fma(p, m, broadcast(kTerms[i]));
  const Vec square = m * m, e = to_floats(exponent);
  Vec y = p * m * square;
  y = fma(e, broadcast(-2.12194440e-4f), y);
  y = fma(square, broadcast(-0.5f), y);
  return fma(e, broadcast(0.693359375f), m + y);
}

// Rows become columns: a 16 x 16 matrix of 32-bit words.
inline void transpose(Ints (&rows)[kLanes]) {
  Ints t[kLanes], u[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; i += 2) {
    t[i] = unpack_low32(rows[i], rows[i + 1]);
    t[i + 1] = unpack_high32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) {  // 128-bit part q of u[i + j]: column 4 q + j of rows i .. i + 3
    u[i] = unpack_low64(t[i], t[i + 2]);
    u[i + 1] = unpack_high64(t[i], t[i + 2]);
    u[i + 2] = unpack_low64(t[i + 1], t[i + 3]);
    u[i + 3] = unpack_high64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
#if defined(__AVX512F__)
    const __m512i a = _mm512_shuffle_i32x4(u[j].v, u[j + 4].v, 0x88), b = _mm512_shuffle_i32x4(u[j].v, u[j + 4].v, 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(u[j + 8].v, u[j + 12].v, 0x88), d = _mm512_shuffle_i32x4(u[j + 8].v, u[j + 12].v, 0xdd);
    rows[j].v = _mm512_shuffle_i32x4(a, c, 0x88);
    rows[j + 4].v = _mm512_shuffle_i32x4(b, d, 0x88);
    rows[j + 8].v = _mm512_shuffle_i32x4(a, c, 0xdd);
    rows[j + 12].v = _mm512_shuffle_i32x4(b, d, 0xdd);
#else
    rows[j] = {_mm256_permute2x128_si256(u[j].lo, u[j + 4].lo, 0x20), _mm256_permute2x128_si256(u[j + 8].lo, u[j + 12].lo, 0x20)};
    rows[j + 4] = {_mm256_permute2x128_si256(u[j].lo, u[j + 4].lo, 0x31), _mm256_permute2x128_si256(u[j + 8].lo, u[j + 12].lo, 0x31)};
    rows[j + 8] = {_mm256_permute2x128_si256(u[j].hi, u[j + 4].hi, 0x20), _mm256_permute2x128_si256(u[j + 8].hi, u[j + 12].hi, 0x20)};
    rows[j + 12] = {_mm256_permute2x128_si256(u[j].hi, u[j + 4].hi, 0x31), _mm256_permute2x128_si256(u[j + 8].hi, u[j + 12].hi, 0x31)};
#endif
  }
}

// Calls f(first, count) for the vectors of n elements: count is Full{} but for the tail, where it is an int.
template <class F>
inline void for_lanes(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, Full{});
  if (i < n) f(i, static_cast<int>(n - i));
}

}  // namespace switchyard::SWITCHYARD_ISA
