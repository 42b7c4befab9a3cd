// Numbers in files: little endian, as in memory on every machine that this program is built for.
#pragma once

#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace switchyard {

static_assert(std::endian::native == std::endian::little);

template <class T>
void append_little_endian(std::string& bytes, T value) {
  static_assert(std::is_arithmetic_v<T>);
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Takes a number off the front. `bytes` must hold one.
template <class T>
T take_little_endian(std::string_view& bytes) {
  static_assert(std::is_arithmetic_v<T>);
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

}  // namespace switchyard
