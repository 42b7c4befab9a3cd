#include "src/checkpoint/checksum.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "src/base/error.h"

namespace switchyard {
namespace {

Checksum canonical(XXH128_hash_t hash) {
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, hash);
  Checksum result;
  std::memcpy(result.data(), bytes.digest, result.size());
  return result;
}

}  // namespace

void ChecksumStream::Free::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

ChecksumStream::ChecksumStream() : state_(XXH3_createState()) {
  if (!state_) throw Error(ExitCode::kFailure, "no memory for a checksum");
  restart();
}

void ChecksumStream::add(const void* data, size_t bytes) { XXH3_128bits_update(state_.get(), data, bytes); }
Checksum ChecksumStream::value() const { return canonical(XXH3_128bits_digest(state_.get())); }
void ChecksumStream::restart() { XXH3_128bits_reset(state_.get()); }

Checksum checksum(std::string_view bytes) { return canonical(XXH3_128bits(bytes.data(), bytes.size())); }

std::string to_hex(const uint8_t* bytes, size_t count) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * count);
  for (size_t i = 0; i < count; ++i) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace switchyard
