// A heat map of experts' load over time, as a pure function to SVG inside a <figure>.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

struct HeatMap {
  std::string title;
  std::vector<double> steps;              // [n] rising
  std::vector<std::vector<double>> load;  // [n][E] fraction of the tokens; rows of other lengths and NaN stay empty
};

inline constexpr size_t kMaxColumns = 120;  // more steps are averaged into so many
inline constexpr size_t kMaxRows = 64;      // more experts are joined into so many rows, each showing its busiest

// Loads are shown as multiples of the mean, in the levels of heat_legend(). The cells of a level are one <path class="l0"> to
// "l7" with one M for each cell; each expert has a <title> with its figures.
std::string to_html(const HeatMap& map);

// Number of the level, 0 to 7, of a load that is `multiple` times the mean.
int heat_level(double multiple);
// What the levels mean.
std::string heat_legend();

}  // namespace switchyard
