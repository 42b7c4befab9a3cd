#include "src/report/html.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdint>

namespace switchyard {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Bytes of the UTF-8 sequence at the beginning of `text`; 0 where there is none.
size_t sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xC2 && first <= 0xDF ? 2 : (first & 0xF0u) == 0xE0 ? 3 : first >= 0xF0 && first <= 0xF4 ? 4 : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0u) != 0x80) return 0;
  }
  // Overlong forms, surrogates, beyond U+10FFFF.
  if ((first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) > 0x9F) || (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) > 0x8F))
    return 0;
  return length;
}

// 12345 -> "12,345"
std::string grouped(double value) {
  std::string digits = fmt::format("{:.0f}", std::fabs(value));
  for (size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return (value < 0 ? "-" : "") + digits;
}

}  // namespace

std::string escape(std::string_view text) {
  std::string safe;
  for (size_t at = 0; at < text.size();) {
    const size_t length = sequence_length(text.substr(at));
    const char c = text[at];
    const bool control = length == 1 && ((static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n') || c == 0x7F);
    if (length == 0 || control) {
      safe += kReplacement;
    } else if (c == '&') {
      safe += "&amp;";
    } else if (c == '<') {
      safe += "&lt;";
    } else if (c == '>') {
      safe += "&gt;";
    } else if (c == '"') {
      safe += "&quot;";
    } else if (c == '\'') {
      safe += "&#39;";
    } else {
      safe += text.substr(at, length);
    }
    at += length == 0 ? 1 : length;
  }
  return safe;
}

std::string short_number(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  const double size = std::fabs(value);
  if (size == 0) return "0";
  if (size >= 999.5 && size < 1e7) return grouped(value);
  if (size >= 1e-3 && size < 999.5) return fmt::format("{:.{}g}", value, digits);
  // 1.2e+07 -> 1.2e7, 1e-05 -> 1e-5
  const int exponent = static_cast<int>(std::floor(std::log10(size)));
  return fmt::format("{:.3g}e{}", value / std::pow(10.0, exponent), exponent);
}

std::string percent_text(double fraction) {
  if (!std::isfinite(fraction)) return "–";
  if (fraction > 0 && fraction < 0.001) return "< 0.1 %";
  return fmt::format("{:.1f} %", 100 * fraction);
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e12) return "–";
  if (seconds < 10) return fmt::format("{:.1f} s", seconds);
  const int64_t s = static_cast<int64_t>(std::llround(seconds));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
}

std::string flops_text(double flops) {
  constexpr std::array<const char*, 7> kUnits = {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"};
  if (!std::isfinite(flops)) return "–";
  size_t unit = 0;
  for (; std::fabs(flops) >= 1000 && unit + 1 < kUnits.size(); ++unit) flops /= 1000;
  return fmt::format("{} {}", short_number(flops), kUnits[unit]);
}

std::string coordinate(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

}  // namespace switchyard
