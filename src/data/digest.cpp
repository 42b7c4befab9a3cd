#include "src/data/digest.h"

#include <xxhash.h>

#include <new>

namespace switchyard {

namespace {

Digest canonical(XXH128_hash_t hash) {
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, hash);
  Digest result;
  for (size_t i = 0; i < result.bytes.size(); ++i) result.bytes[i] = bytes.digest[i];
  return result;
}

}  // namespace

std::string Digest::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Digest digest_of(std::string_view bytes) { return canonical(XXH3_128bits(bytes.data(), bytes.size())); }

DigestStream::DigestStream() : state_(XXH3_createState()) {
  if (state_ == nullptr || XXH3_128bits_reset(state_.get()) != XXH_OK) throw std::bad_alloc();
}

DigestStream::~DigestStream() = default;

void DigestStream::add(std::string_view bytes) { XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()); }

Digest DigestStream::digest() const { return canonical(XXH3_128bits_digest(state_.get())); }

void DigestStream::Free::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

}  // namespace switchyard
