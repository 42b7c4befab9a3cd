#include "src/profile/fit.h"

#include <algorithm>
#include <cmath>

namespace switchyard {

FitSample fit_sample(const Traffic& traffic, double seconds) {
  FitSample sample{0, 0, seconds};
  for (int rank = 0; rank < traffic.ranks; ++rank) {
    FitSample out, in;
    for (int peer = 0; peer < traffic.ranks; ++peer) {
      if (peer == rank) continue;
      out.bytes += static_cast<double>(traffic.at(rank, peer));
      out.messages += traffic.at(rank, peer) > 0;
      in.bytes += static_cast<double>(traffic.at(peer, rank));
      in.messages += traffic.at(peer, rank) > 0;
    }
    for (const FitSample& way : {out, in}) {
      if (way.bytes < sample.bytes || (way.bytes == sample.bytes && way.messages <= sample.messages)) continue;
      sample.bytes = way.bytes;
      sample.messages = way.messages;
    }
  }
  return sample;
}

std::optional<LinkFit> fit_link(std::span<const FitSample> samples) {
  // Rows (m / t, v / t) against 1: mm, mv, vv of the normal equations, and the right side.
  double mm = 0, mv = 0, vv = 0, m1 = 0, v1 = 0;
  int count = 0;
  for (const FitSample& sample : samples) {
    if (!(sample.seconds > 0) || sample.bytes <= 0) continue;
    const double m = sample.messages / sample.seconds, v = sample.bytes / sample.seconds;
    mm += m * m;
    mv += m * v;
    vv += v * v;
    m1 += m;
    v1 += v;
    ++count;
  }
  if (count == 0) return std::nullopt;
  const double determinant = mm * vv - mv * mv;
  double alpha = 0, per_byte = v1 / vv;
  if (determinant > 1e-12 * mm * vv) {
    alpha = (m1 * vv - v1 * mv) / determinant;
    per_byte = (v1 * mm - m1 * mv) / determinant;
  }
  if (alpha < 0) {
    alpha = 0;
    per_byte = v1 / vv;
  }
  if (!(per_byte > 0)) return std::nullopt;
  LinkFit fit{{alpha, 1 / per_byte}, 0, count};
  for (const FitSample& sample : samples) {
    if (!(sample.seconds > 0) || sample.bytes <= 0) continue;
    const double residual = (sample.messages * alpha + sample.bytes * per_byte) / sample.seconds - 1;
    fit.error += residual * residual / count;
  }
  fit.error = std::sqrt(fit.error);
  return fit;
}

}  // namespace switchyard
