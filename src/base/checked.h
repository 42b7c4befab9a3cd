// Integer arithmetic that cannot wrap around: sizes that come from outside go through these before anything is
// allocated. Each throws Error(kUsage) with the operands in the sentence.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "src/base/error.h"

namespace switchyard {

inline int64_t checked_multiply(int64_t a, int64_t b) {
  int64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) {
    throw Error(ExitCode::kUsage, "size " + std::to_string(a) + " * " + std::to_string(b) + " does not fit in 64 bits; use smaller sizes");
  }
  return result;
}

inline int64_t checked_add(int64_t a, int64_t b) {
  int64_t result = 0;
  if (__builtin_add_overflow(a, b, &result)) {
    throw Error(ExitCode::kUsage, "size " + std::to_string(a) + " + " + std::to_string(b) + " does not fit in 64 bits; use smaller sizes");
  }
  return result;
}

// The same number as another integer type, or Error if it has no place there.
template <class To, class From>
To narrow(From value) {
  static_assert(std::is_integral_v<To> && std::is_integral_v<From>);
  const To result = static_cast<To>(value);
  if (static_cast<From>(result) != value || ((result < To{}) != (value < From{}))) {
    throw Error(ExitCode::kUsage, "number " + std::to_string(value) + " is out of range");
  }
  return result;
}

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t multiple) { return divide_up(a, multiple) * multiple; }

}  // namespace switchyard
