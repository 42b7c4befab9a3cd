// Bars of shares that make up a whole, as a pure function to HTML with SVG inside.
#pragma once

#include <string>
#include <vector>

namespace switchyard {

struct ShareBar {
  std::string name;
  std::vector<double> parts;  // of the whole, in `unit`; not finite: unknown, left out
};

struct ShareBars {
  std::string title, unit;         // "seconds of a step"
  std::vector<std::string> parts;  // names, in the order of their styles
  std::vector<ShareBar> bars;
};

// For each bar its parts, longest bar filling the width, as <rect class="part"> with a <title>; under them a table of the same
// numbers and their shares.
std::string to_html(const ShareBars& chart);

}  // namespace switchyard
