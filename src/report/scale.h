// Scale: from values to places on a drawing, and the ticks of an axis.
#pragma once

#include <string>
#include <vector>

namespace switchyard {

struct Scale {
  double low = 0, high = 1;   // values; low < high, and above 0 where logarithmic
  double begin = 0, end = 1;  // their places
  bool logarithmic = false;

  double at(double value) const;
};

// A scale over [low, high], widened where they are equal or not finite.
Scale make_scale(double low, double high, double begin, double end, bool logarithmic);

// Round values inside the scale, about `count` of them, rising.
std::vector<double> ticks(const Scale& scale, int count);

}  // namespace switchyard
