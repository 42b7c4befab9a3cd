// Checksums of files: XXH3-128. It finds damage; it is no proof against forgery.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct XXH3_state_s;

namespace switchyard {

// 128 bits in XXH's canonical (big-endian) order.
struct Digest {
  std::array<uint8_t, 16> bytes{};
  bool operator==(const Digest&) const = default;
  std::string hex() const;
};

Digest digest_of(std::string_view bytes);

// The digest of what was added, piece by piece.
class DigestStream {
 public:
  DigestStream();
  ~DigestStream();
  DigestStream(DigestStream&&) noexcept = default;
  DigestStream& operator=(DigestStream&&) noexcept = default;
  void add(std::string_view bytes);
  Digest digest() const;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

}  // namespace switchyard
