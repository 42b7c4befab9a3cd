// Fits alpha and beta of a link to measured exchanges, by the cost that comm/link_model.h states.
#pragma once

#include <optional>
#include <span>

#include "comm/link_model.h"
#include "src/profile/traffic.h"

namespace switchyard {

// One measured exchange whose messages all go over links of one kind.
struct FitSample {
  double messages = 0;  // of the busiest rank, one way
  double bytes = 0;     // likewise, to or from other ranks
  double seconds = 0;
};

// The busiest rank's messages and bytes in this traffic, own rows left out. Hosts do not matter: all links are of one kind.
FitSample fit_sample(const Traffic& traffic, double seconds);

struct LinkFit {
  Link link;
  double error = 0;  // root of the mean squared relative residual
  int samples = 0;
};

// Least squares of messages * alpha + bytes / beta against seconds, each residual divided by its measured time, so that
// small messages decide alpha as much as large ones decide beta. Neither becomes negative: an alpha below 0 is 0.
// None where no sample has bytes, or where time does not grow with them.
std::optional<LinkFit> fit_link(std::span<const FitSample> samples);

}  // namespace switchyard
