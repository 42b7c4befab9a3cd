// Payloads: what a row is in fewer bytes, its bits on every backend, and what it loses.
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/kernels/backend_fixture.h"

namespace switchyard {
namespace {

constexpr PayloadFormat kFormats[] = {PayloadFormat::kInt8, PayloadFormat::kFp8};
constexpr float kSmallest = std::numeric_limits<float>::min(), kInfinity = std::numeric_limits<float>::infinity();

std::string name_of(PayloadFormat format) { return format == PayloadFormat::kFp8 ? "FP8" : "INT8"; }

// ---- E4M3, from its definition -------------------------------------------------------------------------------------------

double e4m3_by_definition(int code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

// The nearest of all finite numbers; of two as near, the one whose code is even.
int nearest_e4m3(double value) {
  int best = 0;
  for (int code = 0; code <= 0x7e; ++code) {
    const double distance = std::abs(std::abs(value) - e4m3_by_definition(code)), least = std::abs(std::abs(value) - e4m3_by_definition(best));
    if (distance < least || (distance == least && code % 2 == 0)) best = code;
  }
  return std::signbit(value) ? best | 0x80 : best;
}

TEST(E4m3, EveryCodeIsItsNumberAndBack) {
  for (int code = 0; code < 256; ++code) {
    const float number = e4m3_number(static_cast<uint8_t>(code));
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(number)) << code;
    } else {
      EXPECT_EQ(number, e4m3_by_definition(code)) << code;
      EXPECT_EQ(std::signbit(number), code >= 0x80) << code;
    }
    EXPECT_EQ(e4m3_code(number) & 0x7f, code & 0x7f) << code;
  }
}

TEST(E4m3, RoundsToTheNearestTiesToEven) {
  for (int code = 0; code < 0x7e; ++code) {
    const double low = e4m3_by_definition(code), high = e4m3_by_definition(code + 1), middle = (low + high) / 2;
    for (const double value : {low, middle, std::nextafter(static_cast<float>(middle), 0.0f) + 0.0, std::nextafter(static_cast<float>(middle), 1e9f) + 0.0,
                               low + (high - low) * 0.3, low + (high - low) * 0.8}) {
      const float rounded = static_cast<float>(value);
      EXPECT_EQ(e4m3_code(rounded), nearest_e4m3(static_cast<double>(rounded))) << value;
      EXPECT_EQ(e4m3_code(-rounded), nearest_e4m3(-static_cast<double>(rounded))) << -value;
    }
  }
}

TEST(E4m3, SaturatesAndKeepsNaN) {
  for (const float value : {448.0f, 464.0f, 480.0f, 1e30f, kInfinity}) {
    EXPECT_EQ(e4m3_code(value), 0x7e) << value;
    EXPECT_EQ(e4m3_code(-value), 0xfe) << value;
  }
  EXPECT_EQ(e4m3_code(std::numeric_limits<float>::quiet_NaN()) & 0x7f, 0x7f);
}

// ---- every backend -------------------------------------------------------------------------------------------------------

class Payloads : public BackendTest {
 protected:
  // With every bit set, so that bytes which are left out show.
  Tensor payload_of(int64_t n, int64_t width) { return pool.filled(Dtype::kI32, {n, payload_words(width)}, -1); }
  Tensor norms_of(int64_t n) { return target(Dtype::kF32, {n, 2}); }

  // x there and back, in x's dtype.
  Tensor there_and_back(const Tensor& x, PayloadFormat format) {
    const Tensor payload = payload_of(x.rows(), x.columns()), y = target(activation, x.shape());
    backend->quantise(Out(payload), Out(Tensor()), x, format);
    backend->dequantise(Out(y), Out(Tensor()), payload, format);
    return y;
  }

  // Codes, scales, norms and what comes back have the reference's bits.
  void expect_reference_bits(const Tensor& x, PayloadFormat format, const std::string& what) {
    const int64_t n = x.rows(), width = x.columns();
    const Tensor actual = payload_of(n, width), expected = payload_of(n, width), norms = norms_of(n), expected_norms = norms_of(n);
    backend->quantise(Out(actual), Out(norms), x, format);
    reference->quantise(Out(expected), Out(expected_norms), pool.wide(x), format);
    expect_same_bits(actual, expected, "payload of " + what);
    expect_same_bits(norms, expected_norms, "norms of " + what);
    const Tensor y = target(activation, {n, width}), expected_y = target(exact, {n, width}), arrived = norms_of(n);
    backend->dequantise(Out(y), Out(arrived), actual, format);
    reference->dequantise(Out(expected_y), Out(Tensor()), expected, format);
    expect_same_bits(y, pool.as(activation, expected_y), "values of " + what);
    expect_same_bits(arrived, expected_norms, "norms that arrive of " + what);
  }

  // Rows of many kinds, as wide as asked for.
  Tensor strange_rows(int64_t width) {
    const std::vector<float> kinds = {0, -0.0f, 1e-45f, -1e-40f, kSmallest, 1e-37f, 1e-20f, 0.5f, -1, 3, 1e9f, 1e30f, -3e38f};
    const Tensor x = activations({static_cast<int64_t>(kinds.size()), width});
    for (int64_t r = 0; r < x.rows(); ++r) {
      for (int64_t c = 0; c < width; ++c) set(x, r, c, at(x, r, c) * static_cast<double>(kinds[static_cast<size_t>(r)]));
      set(x, r, width - 1, static_cast<double>(kinds[static_cast<size_t>(r)]));
    }
    return x;
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, Payloads, testing::ValuesIn(backend_cases()), case_name);

TEST_P(Payloads, HaveTheBitsOfTheReference) {
  for (const PayloadFormat format : kFormats) {
    for (const int64_t width : {1, 2, 3, 16, 17, 33, 63, 64, 65, 130, 192, 1000}) {
      for (const int64_t n : {0, 1, 33}) expect_reference_bits(activations({n, width}, -2, 3), format, label(name_of(format), n, width));
      expect_reference_bits(strange_rows(width), format, label(name_of(format) + " strange rows", width));
    }
    expect_reference_bits(activations({700, 256}), format, label(name_of(format), 700, 256));
  }
}

TEST_P(Payloads, EveryE4m3CodeArrivesAsItsNumber) {
  const Tensor payload = pool.make(Dtype::kI32, {4, payload_words(64)}), y = target(activation, {4, 64});
  for (int64_t r = 0; r < 4; ++r) {
    const PayloadRow<int32_t> row(payload.row<int32_t>(r), 64);
    for (int64_t i = 0; i < 64; ++i) row.codes[i] = static_cast<uint8_t>(64 * r + i);
    row.scales[0] = 2;
  }
  backend->dequantise(Out(y), Out(Tensor()), payload, PayloadFormat::kFp8);
  for (int code = 0; code < 256; ++code) {
    const double arrived = at(y, code / 64, code % 64);
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(arrived)) << code;
    } else {
      EXPECT_EQ(arrived, 2 * e4m3_by_definition(code)) << code;
    }
  }
}

// A block whose largest element is the limit has the scale 1: codes are then those of the elements themselves.
TEST_P(Payloads, RoundToTheNearestTiesToEven) {
  const std::vector<double> halves = {127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.25, 0.75, -126.5, 126.5};
  const Tensor whole = pool.of(activation, {1, static_cast<int64_t>(halves.size())}, halves);
  const std::vector<double> expected = {127, 0, 2, 2, 0, -2, -2, 0, 1, -126, 126};
  const Tensor y = there_and_back(whole, PayloadFormat::kInt8);
  for (size_t i = 0; i < halves.size(); ++i) EXPECT_EQ(at(y, 0, static_cast<int64_t>(i)), expected[i]) << halves[i];

  for (int code = 0; code < 0x7e; ++code) {
    const double middle = (e4m3_by_definition(code) + e4m3_by_definition(code + 1)) / 2;
    const Tensor ties = there_and_back(pool.of(activation, {1, 3}, {448, middle, -middle}), PayloadFormat::kFp8);
    const double nearest = e4m3_by_definition(nearest_e4m3(middle));
    EXPECT_EQ(at(ties, 0, 1), nearest) << "between " << code << " and the next";
    EXPECT_EQ(at(ties, 0, 2), -nearest) << "between " << code << " and the next";
  }
}

TEST_P(Payloads, LoseNoMoreThanTheirFormatMust) {
  const double rounding = activation == Dtype::kBF16 ? 0x1p-8 : 0x1p-22;  // of what arrives
  for (const int64_t width : {1, 17, 64, 130}) {
    const Tensor x = activations({50, width}, -1, 2);
    for (const PayloadFormat format : kFormats) {
      const Tensor y = there_and_back(x, format);
      for (int64_t r = 0; r < x.rows(); ++r) {
        for (int64_t c = 0; c < width; ++c) {
          double largest = 0;
          const int64_t first = c / kPayloadBlock * kPayloadBlock;
          for (int64_t i = first; i < std::min(width, first + kPayloadBlock); ++i) largest = std::max(largest, std::abs(at(x, r, i)));
          const double step = format == PayloadFormat::kInt8 ? largest / 254 : std::max(std::abs(at(x, r, c)) / 16, largest / 448 / 1024);
          EXPECT_NEAR(at(y, r, c), at(x, r, c), step * 1.0001 + rounding * std::abs(at(x, r, c))) << label(name_of(format), r, c, width);
        }
      }
    }
  }
}

TEST_P(Payloads, NormsAreThoseOfWhatIsLostAndOfTheRow) {
  for (const PayloadFormat format : kFormats) {
    for (const int64_t width : {1, 33, 64, 200}) {
      const Tensor x = activations({20, width}, -1e-12, 3e-12);  // gradients are small, their squares smaller
      const Tensor payload = payload_of(20, width), norms = norms_of(20), y = target(Dtype::kF64, x.shape());
      backend->quantise(Out(payload), Out(norms), x, format);
      reference->dequantise(Out(y), Out(Tensor()), payload, format);
      for (int64_t r = 0; r < 20; ++r) {
        double lost = 0, sent = 0;
        for (int64_t c = 0; c < width; ++c) {
          lost += std::pow(at(x, r, c) - at(y, r, c), 2);
          sent += std::pow(at(x, r, c), 2);
        }
        EXPECT_NEAR(at(norms, r, 1), std::sqrt(sent), 1e-6 * std::sqrt(sent)) << label(name_of(format), r, width);
        EXPECT_NEAR(at(norms, r, 0), std::sqrt(lost), 1e-6 * std::sqrt(sent)) << label(name_of(format), r, width);
      }
    }
  }
}

TEST_P(Payloads, ZerosStayZerosAndARowIsItsOwnAffair) {
  for (const PayloadFormat format : kFormats) {
    const Tensor x = activations({9, 130});
    backend->zero(Out(x.slice_rows(4, 1)));
    const Tensor y = there_and_back(x, format), alone = there_and_back(x.slice_rows(5, 1), format);
    for (int64_t c = 0; c < 130; ++c) EXPECT_EQ(at(y, 4, c), 0) << name_of(format) << " column " << c;
    expect_same_bits(alone, y.slice_rows(5, 1), name_of(format) + " row 5, alone");
  }
}

TEST_P(Payloads, WhatIsNotFiniteArrivesAsNaN) {
  for (const PayloadFormat format : kFormats) {
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
      for (const int64_t place : {0, 40, 64, 100, 129}) {
        const Tensor x = activations({3, 130});
        set(x, 1, place, bad);
        expect_reference_bits(x, format, label(name_of(format) + " not finite", place));
        const Tensor y = there_and_back(x, format);
        for (int64_t c = 0; c < 130; ++c) {
          EXPECT_EQ(std::isfinite(at(y, 1, c)), c / kPayloadBlock != place / kPayloadBlock) << name_of(format) << " column " << c << ", bad at " << place;
          EXPECT_TRUE(std::isfinite(at(y, 0, c)) && std::isfinite(at(y, 2, c))) << "another row";
        }
      }
    }
  }
}

}  // namespace
}  // namespace switchyard
