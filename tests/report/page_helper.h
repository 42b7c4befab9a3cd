// Counts what is drawn on a page.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

inline size_t occurrences(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

// Every piece between `begin` and the next `end`.
inline std::vector<std::string> pieces(std::string_view text, std::string_view begin, std::string_view end) {
  std::vector<std::string> result;
  for (size_t at = text.find(begin); at != std::string_view::npos; at = text.find(begin, at)) {
    at += begin.size();
    const size_t stop = text.find(end, at);
    if (stop == std::string_view::npos) break;
    result.emplace_back(text.substr(at, stop - at));
    at = stop;
  }
  return result;
}

// Points of an SVG path: its M and L.
inline size_t points_of_path(std::string_view path) { return occurrences(path, "M") + occurrences(path, "L"); }

// Points of each series of one <figure>, in order; the title of the figure must occur once.
inline std::vector<size_t> points_of_figure(std::string_view page, std::string_view title) {
  std::vector<size_t> counts;
  for (const std::string& figure : pieces(page, "<figure", "</figure>")) {
    if (figure.find("<figcaption><b>" + std::string(title) + "</b>") == std::string::npos) continue;
    for (const std::string& series : pieces(figure, "<g class=\"series", "</g>")) {
      const std::vector<std::string> faint = pieces(series, "<path class=\"line faint\" d=\"", "\""), line = pieces(series, "<path class=\"line\" d=\"", "\"");
      counts.push_back(points_of_path(faint.empty() ? line.at(0) : faint[0]));
    }
  }
  return counts;
}

// An empty text where the elements of a page are closed in the order in which they were opened, else what is wrong.
std::string unbalanced(const std::string& page);

}  // namespace switchyard
