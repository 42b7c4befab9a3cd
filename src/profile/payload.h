// What the sweep sends: every 4-byte word says who sent it to whom, when, and where in the message it stood.
#pragma once

#include <cstdint>
#include <span>

namespace switchyard {

// Which message: one rank's to another in one repetition.
struct Parcel {
  int from = 0, to = 0;
  int64_t repetition = 0;
};

// The first word; word i is this plus i * kPayloadStride, modulo 2^32. A finalizer of SplitMix64 over the three numbers.
constexpr uint32_t payload_key(const Parcel& message) {
  uint64_t z = (static_cast<uint64_t>(message.repetition) * 0x9E3779B97F4A7C15u) ^ (static_cast<uint64_t>(message.from + 1) << 40) ^
               (static_cast<uint64_t>(message.to + 1) << 16);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 16);
}
inline constexpr uint32_t kPayloadStride = 2654435761u;  // odd: no two of 2^32 words are alike

inline void fill_payload(std::span<uint32_t> words, const Parcel& message) {
  const uint32_t key = payload_key(message);
  for (size_t i = 0; i < words.size(); ++i) words[i] = key + static_cast<uint32_t>(i) * kPayloadStride;
}

// Words that are not what `message` holds.
inline int64_t wrong_words(std::span<const uint32_t> words, const Parcel& message) {
  const uint32_t key = payload_key(message);
  int64_t wrong = 0;
  for (size_t i = 0; i < words.size(); ++i) wrong += words[i] != key + static_cast<uint32_t>(i) * kPayloadStride;
  return wrong;
}

}  // namespace switchyard
