// A chart of lines, as a pure function to SVG inside a <figure>.
#pragma once

#include <string>
#include <vector>

namespace switchyard {

inline constexpr int kStyles = 8;           // of lines and fills; further ones repeat them
inline constexpr size_t kMaxPoints = 2000;  // of a line that are drawn; of longer ones the ends of every part

// x rises. A value that is not finite is a gap.
struct Series {
  std::string name;
  std::vector<double> x, y;
  int style = 0;         // colour and dashes: style % kStyles
  bool markers = false;  // a dot with its own words for each point
};

struct LineChart {
  std::string title, unit, x_label;
  std::vector<Series> series;
  bool percent = false;      // values are fractions, shown in per cent
  bool from_zero = false;    // the frame includes 0
  bool whole = false;        // values are whole numbers, and so are the marks of the axis
  bool smooth = false;       // noisy: the points faint, and their moving average over them
  bool skip_start = false;   // the frame fits what follows the first tenth; what lies above is cut off, and said so
  bool log_if_wide = false;  // a logarithmic scale where values differ by more than 30 times
};

// The <figure>, without a legend. Each series is a <g class="series"> with a <title>, and one <path class="line"> that
// has one M or L for each point. Without any point: a figure that says so.
std::string to_html(const LineChart& chart);

// A list of styles and names, for one chart or for many that share them.
std::string legend(const std::vector<std::pair<int, std::string>>& entries);

}  // namespace switchyard
