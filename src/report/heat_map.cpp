#include "src/report/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "src/report/html.h"
#include "src/report/scale.h"

namespace switchyard {
namespace {

constexpr int kLevels = 8;
constexpr std::array<double, kLevels - 1> kAbove = {0, 0.25, 0.5, 0.8, 1.25, 2, 4};  // a level begins above so many times the mean
constexpr std::array<const char*, kLevels> kMeanings = {"no token",      "up to 1/4 of the mean", "up to 1/2",        "up to 0.8", "0.8 to 1.25: balanced",
                                                        "up to 2 times", "up to 4 times",         "more than 4 times"};

constexpr double kWidth = 360, kLeft = 46, kRight = 10, kTop = 6, kBottom = 34;

// [rows][columns] multiples of the mean load, averaged over the steps of a column; NaN where nothing is known.
struct Grid {
  std::vector<std::vector<double>> cells;
  size_t experts = 0, columns = 0, joined = 1;  // experts of a row

  size_t first_expert(size_t row) const { return row * joined; }
};

Grid grid_of(const HeatMap& map) {
  Grid grid;
  for (const auto& load : map.load) grid.experts = std::max(grid.experts, load.size());
  const size_t steps = std::min(map.steps.size(), map.load.size());
  if (grid.experts == 0 || steps == 0) return grid;
  grid.columns = std::min(steps, kMaxColumns);
  grid.joined = (grid.experts + kMaxRows - 1) / kMaxRows;
  grid.cells.assign((grid.experts + grid.joined - 1) / grid.joined, std::vector<double>(grid.columns, std::numeric_limits<double>::quiet_NaN()));
  for (size_t column = 0; column < grid.columns; ++column) {
    const size_t begin = column * steps / grid.columns, end = (column + 1) * steps / grid.columns;
    for (size_t expert = 0; expert < grid.experts; ++expert) {
      double sum = 0, count = 0;
      for (size_t step = begin; step < end; ++step) {
        if (map.load[step].size() == grid.experts && std::isfinite(map.load[step][expert])) sum += map.load[step][expert], count += 1;
      }
      double& cell = grid.cells[expert / grid.joined][column];
      if (count > 0) cell = std::fmax(cell, sum / count * static_cast<double>(grid.experts));
    }
  }
  return grid;
}

std::string row_name(const Grid& grid, size_t row) {
  const size_t first = grid.first_expert(row), last = std::min(grid.experts, first + grid.joined) - 1;
  return first == last ? fmt::format("expert {}", first) : fmt::format("busiest of experts {} to {}", first, last);
}

std::string row_title(const Grid& grid, size_t row) {
  double sum = 0, count = 0, low = std::numeric_limits<double>::infinity(), high = 0, last = std::numeric_limits<double>::quiet_NaN();
  for (const double cell : grid.cells[row]) {
    if (!std::isfinite(cell)) continue;
    sum += cell, count += 1;
    low = std::min(low, cell), high = std::max(high, cell);
    last = cell;
  }
  if (count == 0) return row_name(grid, row) + ": nothing known";
  return fmt::format("{}: {:.2f} times the mean load on average, {:.2f} to {:.2f}, {:.2f} at the end", row_name(grid, row), sum / count, low, high, last);
}

std::string cells_svg(const Grid& grid, double cell_width, double cell_height) {
  std::array<std::string, kLevels> paths;
  for (size_t row = 0; row < grid.cells.size(); ++row) {
    for (size_t column = 0; column < grid.columns; ++column) {
      const double value = grid.cells[row][column];
      if (!std::isfinite(value)) continue;
      const double x = kLeft + static_cast<double>(column) * cell_width, y = kTop + static_cast<double>(row) * cell_height;
      paths[static_cast<size_t>(heat_level(value))] += fmt::format("M{:.2f} {:.2f}h{:.2f}v{:.2f}h-{:.2f}z", x, y, cell_width, cell_height, cell_width);
    }
  }
  std::string svg;
  for (int level = 0; level < kLevels; ++level) {
    if (!paths[static_cast<size_t>(level)].empty()) svg += fmt::format("<path class=\"l{}\" d=\"{}\"/>", level, paths[static_cast<size_t>(level)]);
  }
  // What the pointer meets: a row with its figures.
  for (size_t row = 0; row < grid.cells.size(); ++row) {
    svg +=
        fmt::format("<rect class=\"row\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>", kLeft,
                    coordinate(kTop + static_cast<double>(row) * cell_height), kWidth - kLeft - kRight, coordinate(cell_height), escape(row_title(grid, row)));
  }
  return svg;
}

std::string axes(const HeatMap& map, const Grid& grid, double height, double cell_height) {
  std::string svg = "<g class=\"axis\">";
  const size_t every = cell_height >= 11 ? 1 : static_cast<size_t>(std::ceil(11 / cell_height));
  for (size_t row = 0; row < grid.cells.size(); row += every) {
    svg += fmt::format("<text x=\"{}\" y=\"{}\" dy=\".32em\" text-anchor=\"end\">{}</text>", kLeft - 5,
                       coordinate(kTop + (static_cast<double>(row) + 0.5) * cell_height), grid.first_expert(row));
  }
  // A column stands for the steps up to its own.
  const Scale x = make_scale(map.steps.front(), map.steps.back(), kLeft, kWidth - kRight, false);
  for (const double tick : ticks(x, 5)) {
    const double at = x.at(tick);
    svg += fmt::format("<path class=\"tick\" d=\"M{} {}v4\"/><text x=\"{}\" y=\"{}\" text-anchor=\"{}\">{}</text>", coordinate(at), height - kBottom,
                       coordinate(at), height - kBottom + 15, at > kWidth - kRight - 14 ? "end" : "middle", escape(short_number(tick)));
  }
  return svg + fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text></g>", (kLeft + kWidth - kRight) / 2, height - 3);
}

}  // namespace

int heat_level(double multiple) {
  int level = 0;
  while (level < kLevels - 1 && multiple > kAbove[static_cast<size_t>(level)]) ++level;
  return level;
}

std::string to_html(const HeatMap& map) {
  const Grid grid = grid_of(map);
  const std::string unit =
      grid.joined > 1 ? fmt::format("{} experts, the busiest of each {}", grid.experts, grid.joined) : fmt::format("{} experts", grid.experts);
  const std::string caption =
      fmt::format("<figcaption><b>{}</b> <span class=\"unit\">{}; load in multiples of the mean</span></figcaption>", escape(map.title), unit);
  if (grid.cells.empty()) return fmt::format("<figure class=\"chart\">{}<p class=\"none\">no loads in this run</p></figure>", caption);
  const double cell_height = std::clamp(170.0 / static_cast<double>(grid.cells.size()), 4.0, 20.0);
  const double height = kTop + cell_height * static_cast<double>(grid.cells.size()) + kBottom;
  const double cell_width = (kWidth - kLeft - kRight) / static_cast<double>(grid.columns);
  return fmt::format("<figure class=\"chart\">{}<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\" class=\"heat\">{}{}</svg></figure>", caption, kWidth,
                     coordinate(height), escape(map.title), cells_svg(grid, cell_width, cell_height), axes(map, grid, height, cell_height));
}

std::string heat_legend() {
  std::string html = "<ul class=\"legend heat\">";
  for (int level = 0; level < kLevels; ++level) {
    html += fmt::format("<li><svg viewBox=\"0 0 14 14\" class=\"key square\"><path class=\"l{}\" d=\"M0 0h14v14h-14z\"/></svg>{}</li>", level,
                        kMeanings[static_cast<size_t>(level)]);
  }
  return html + "</ul>";
}

}  // namespace switchyard
