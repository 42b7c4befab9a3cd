// Payloads of a MoE layer: in which form its rows travel on each of their ways, and what they lose there
// (kernels/payload.h). A row is compressed when it leaves and expanded when it arrives, also where it stays on its rank:
// so no bit depends on where an expert lives. Backward takes compression as the identity (straight-through): the ways of
// gradients are compressed themselves, or not, and the adjoints of the ways of activations only without it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/payload.h"
#include "src/base/checked.h"

namespace switchyard {

// The four ways of rows, in the order in which a step takes them.
enum class Way : uint8_t { kDispatch, kCombine, kCombineBackward, kDispatchBackward };
inline constexpr size_t kWays = 4;

// Literals: names of collectives, too.
constexpr const char* name(Way way) {
  switch (way) {
    case Way::kDispatch: return "dispatch";
    case Way::kCombine: return "combine";
    case Way::kCombineBackward: return "combine backward";
    case Way::kDispatchBackward: return "dispatch backward";
  }
  return "?";
}

// The form of each way. Without a member of its own it is kPlain.
using Payloads = std::array<PayloadFormat, kWays>;

struct PayloadOptions {
  Payloads format{};
  double error_bound = 0.05;  // a way that loses more in a step, as relative() says, is plain from the next one on; 0: never

  bool any() const {
    return std::any_of(format.begin(), format.end(), [](PayloadFormat f) { return f != PayloadFormat::kPlain; });
  }
  bool all() const {
    return std::none_of(format.begin(), format.end(), [](PayloadFormat f) { return f == PayloadFormat::kPlain; });
  }
  // The most that a row of `width` numbers of `dtype` takes on any way, after a fall-back too.
  int64_t row_bytes(int64_t width, Dtype dtype) const {
    const int64_t plain = checked_multiply(width, size_of(dtype)), compressed = checked_multiply(payload_words(width), size_of(Dtype::kI32));
    if (!any()) return plain;
    return all() && error_bound == 0 ? compressed : std::max(plain, compressed);
  }
};

// Sums over rows, each row's from its norms: squares of what was lost and of what was sent.
struct PayloadLoss {
  double lost = 0, sent = 0;

  // Root of the mean square lost, relative to that of what was sent. NaN where nothing was, or nothing finite.
  double relative() const { return std::sqrt(lost / sent); }
};

// Of one micro-batch, on the host; zeros for ways that are plain.
struct PayloadLosses {
  std::array<PayloadLoss, kWays> way{};
  std::vector<float> norms{};  // [entries, 2] of the way that is being added up: here so that its memory is reused
};

}  // namespace switchyard
