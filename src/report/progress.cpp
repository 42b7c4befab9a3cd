#include "src/report/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

// "18,302"
std::string with_commas(double value) {
  if (!std::isfinite(value)) return "?";
  std::string digits = fmt::format("{:.0f}", std::max(0.0, value));
  for (size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

// "40 s", "3 min 20 s", "2 h 5 min"
std::string duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "?";
  const int64_t s = static_cast<int64_t>(std::ceil(seconds));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
}

}  // namespace

std::string progress_text(const StepMetrics& metrics, int64_t steps, double seconds_left) {
  std::string text = fmt::format("step {}/{}  loss {:.4f}  {} tokens/s", metrics.step, steps, metrics.loss, with_commas(metrics.tokens_per_second));
  if (!metrics.layers.empty()) text += fmt::format("  dropped {:.1f} %", 100 * metrics.dropped_fraction);
  double lost = 0;  // on the way that loses most
  for (const LayerMetrics& layer : metrics.layers) {
    for (const auto& [way, error] : layer.payload_error) lost = std::max(lost, std::isfinite(error) ? error : 0);
  }
  if (lost > 0) text += fmt::format("  payload error {:.2f} %", 100 * lost);
  return text + "  ETA " + duration(seconds_left);
}

void Progress::show(const StepMetrics& metrics, int64_t steps_done, double elapsed_seconds) {
  const double per_step = steps_done > 0 ? elapsed_seconds / static_cast<double>(steps_done) : INFINITY;
  const double left = metrics.step >= steps_ ? 0 : per_step * static_cast<double>(steps_ - metrics.step);
  const std::string text = progress_text(metrics, steps_, left);
  if (!terminal_) {
    std::fprintf(stream_, "%s\n", text.c_str());
  } else {
    // Blanks cover what is left of a longer text.
    const size_t blanks = width_ > text.size() ? width_ - text.size() : 0;
    std::fprintf(stream_, "\r%s%s", text.c_str(), std::string(blanks, ' ').c_str());
    width_ = text.size();
  }
  std::fflush(stream_);
}

void Progress::finish() {
  if (width_ == 0) return;
  std::fputc('\n', stream_);
  std::fflush(stream_);
  width_ = 0;
}

}  // namespace switchyard
