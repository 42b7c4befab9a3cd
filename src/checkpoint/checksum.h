// XXH3-128 over bytes that come in pieces: finds accidents, not forgers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct XXH3_state_s;

namespace switchyard {

// Canonical (big-endian) bytes of the hash.
using Checksum = std::array<uint8_t, 16>;

class ChecksumStream {
 public:
  ChecksumStream();
  void add(const void* data, size_t bytes);
  Checksum value() const;
  void restart();

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

Checksum checksum(std::string_view bytes);

// Lower-case hexadecimal, as xxhsum -H2 and sha256sum print it.
std::string to_hex(const uint8_t* bytes, size_t count);
inline std::string to_hex(const Checksum& value) { return to_hex(value.data(), value.size()); }
// True where `text` is `digits` lower-case hexadecimal digits.
bool is_hex(std::string_view text, size_t digits);

}  // namespace switchyard
