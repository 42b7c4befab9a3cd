// Random numbers without state: Philox4x32-10 (Salmon et al., SC 2011) as a pure function of who asks and for what.
//
// A draw is named by (seed, purpose, layer, step, index, element). Nothing depends on ranks, threads or the order of
// calls, and recomputation draws the same numbers. The same functions compile for the host and for the device.
//
//   key     = mix(seed, purpose, layer)                        64 bits
//   counter = (element / 4, step, low half of index, high half of index)   4 x 32 bits
//
// `index` is the token's number in the step for per-token draws, expert_index() inside experts, and a hash of the
// parameter's global name for initialisation.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define SWITCHYARD_HOST_DEVICE __host__ __device__
#else
#define SWITCHYARD_HOST_DEVICE
#endif

namespace switchyard {

using Philox4 = std::array<uint32_t, 4>;

enum class Purpose : uint32_t {
  kInitialise = 1,
  kJitter = 2,
  kEmbeddingDropout = 3,
  kAttentionDropout = 4,  // after the attention sublayer
  kFeedForwardDropout = 5,  // after the feed-forward or MoE sublayer
  kHiddenDropout = 6,     // inside a dense feed-forward, after ReLU
  kExpertDropout = 7,     // inside an expert, after ReLU
  kSampling = 8,
  kDataOrder = 9,
  kRouterSample = 10,   // the expert of a token, Exploration::kSample
  kRouterDropout = 11,  // of the router's input
  kRouterNoise = 12,    // of the router's logits
  kSecondExpert = 13,   // whether the second expert is asked
  kRouterHash = 14,     // the table of hash routing
  kHeadDropout = 15,    // inside a classifier's head; layer 0 before the hidden product, 1 after it
};

// One of the 2^128 blocks of four words. Key and counter as in the paper's reference: key[0] is the low half.
SWITCHYARD_HOST_DEVICE inline Philox4 philox(uint64_t key, Philox4 counter) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ k0, static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return counter;
}

// The finaliser of SplitMix64: a bijection that spreads every bit.
SWITCHYARD_HOST_DEVICE inline uint64_t mix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// FNV-1a, for names.
inline uint64_t hash_name(const char* text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (; *text != '\0'; ++text) hash = (hash ^ static_cast<unsigned char>(*text)) * 0x100000001b3u;
  return hash;
}

// All but (index, element) of a draw. `first_index` is the index of row 0 of the tensor at hand; row r draws with
// first_index + r, column c is the element.
struct Random {
  uint64_t key = 0;
  uint32_t step = 0;
  uint64_t first_index = 0;

  Random() = default;
  Random(uint64_t seed, Purpose purpose, uint32_t layer, uint32_t at_step, uint64_t first)
      : key(mix64(seed ^ mix64((uint64_t{static_cast<uint32_t>(purpose)} << 32) | layer))), step(at_step), first_index(first) {}

  // The four words of elements 4 * block .. 4 * block + 3 of the row.
  SWITCHYARD_HOST_DEVICE Philox4 words(uint64_t row, uint32_t block) const {
    const uint64_t index = first_index + row;
    return philox(key, {block, step, static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32)});
  }
  SWITCHYARD_HOST_DEVICE uint32_t word(uint64_t row, uint32_t element) const { return words(row, element / 4)[element % 4]; }
};

// Index of a slot inside an expert: 64 bits as (lane 16, accumulation 12, expert 14, slot 22).
constexpr uint64_t expert_index(uint64_t lane, uint64_t accumulation, uint64_t expert, uint64_t slot) {
  return (lane << 48) | (accumulation << 36) | (expert << 22) | slot;
}

// [0, 1), 24 bits.
SWITCHYARD_HOST_DEVICE inline float unit_float(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// Elements whose word is below the threshold are dropped with probability `rate` in [0, 1).
SWITCHYARD_HOST_DEVICE inline uint32_t drop_threshold(double rate) { return static_cast<uint32_t>(rate * 4294967296.0); }

// A standard normal number from two words (Box-Muller), in f64.
inline double normal_from(uint32_t a, uint32_t b) {
  const double u = (static_cast<double>(a) + 1.0) * 0x1p-32;  // (0, 1]
  const double v = static_cast<double>(b) * 0x1p-32;          // [0, 1)
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586476925 * v);
}

}  // namespace switchyard
