#include "src/report/line_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/report/html.h"
#include "src/report/scale.h"

namespace switchyard {
namespace {

// The drawing, in its own units, which are about pixels.
constexpr double kWidth = 360, kHeight = 214, kLeft = 46, kRight = 10, kTop = 8, kBottom = 34;
constexpr size_t kMarkers = 60;  // a longer line goes without

struct Point {
  double x, y;
};

struct Bounds {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

std::vector<Point> points_of(const Series& series) {
  std::vector<Point> points;
  for (size_t i = 0; i < std::min(series.x.size(), series.y.size()); ++i) {
    if (std::isfinite(series.x[i])) points.push_back({series.x[i], series.y[i]});
  }
  return points;
}

// The lowest and the highest of each of kMaxPoints / 2 parts: spikes stay.
std::vector<Point> thinned(const std::vector<Point>& points) {
  if (points.size() <= kMaxPoints) return points;
  std::vector<Point> result;
  const size_t parts = kMaxPoints / 2;
  const auto lower = [](const Point& a, const Point& b) { return a.y < b.y; };
  for (size_t part = 0; part < parts; ++part) {
    const auto begin = points.begin() + static_cast<int64_t>(part * points.size() / parts),
               end = points.begin() + static_cast<int64_t>((part + 1) * points.size() / parts);
    const auto [lowest, highest] = std::minmax_element(begin, end, lower);
    result.push_back(std::min(lowest, highest)[0]);
    if (lowest != highest) result.push_back(std::max(lowest, highest)[0]);
  }
  return result;
}

// The mean of each point and its neighbours, a 25th of the line on both sides together; gaps stay gaps.
std::vector<Point> smoothed(const std::vector<Point>& points) {
  const size_t side = points.size() / 50;
  std::vector<Point> result = points;
  for (size_t i = 0; i < points.size(); ++i) {
    if (!std::isfinite(points[i].y)) continue;
    // As far on both sides, so that the steep beginning is kept; at the end what there is.
    const size_t before = std::min(side, i), after = std::min(before, points.size() - 1 - i);
    double sum = 0, count = 0;
    for (size_t j = i - before; j <= i + after; ++j) {
      if (std::isfinite(points[j].y)) sum += points[j].y, count += 1;
    }
    result[i].y = sum / count;
  }
  return result;
}

std::string path_of(const std::vector<Point>& points, const Scale& x, const Scale& y) {
  std::string path;
  bool open = false;
  for (const Point& point : points) {
    if (!std::isfinite(point.y) || (y.logarithmic && point.y <= 0)) {
      open = false;
      continue;
    }
    // What lies far outside the frame is cut off there; its place must stay a sensible number.
    const double height = std::clamp(y.at(point.y), -1000.0, 2000.0);
    path += fmt::format("{}{} {}", open ? "L" : "M", coordinate(x.at(point.x)), coordinate(height));
    open = true;
  }
  return path;
}

struct Frame {
  Scale x, y;
  bool cut = false;  // something lies above
};

Frame frame_of(const LineChart& chart, const std::vector<std::vector<Point>>& lines) {
  Bounds x, y, all;
  x.add(0);  // so that charts beside one another begin at one place
  for (const std::vector<Point>& line : lines) {
    const size_t skipped = chart.skip_start && line.size() >= 20 ? line.size() / 10 : 0;
    for (size_t i = 0; i < line.size(); ++i) {
      x.add(line[i].x);
      all.add(line[i].y);
      if (i >= skipped) y.add(line[i].y);
    }
  }
  if (y.low > y.high) y = all;
  const bool logarithmic = chart.log_if_wide && y.low > 0 && y.high > 30 * y.low;
  if (chart.from_zero) y.low = std::min(y.low, 0.0), y.high = std::max(y.high, 0.0);
  if (chart.from_zero && y.low == 0 && y.high == 0) y.high = chart.percent ? 0.01 : 1;
  const double room = logarithmic ? 0 : 0.06 * (y.high - y.low);
  Frame frame;
  frame.cut = all.high > y.high + room;
  frame.x = make_scale(x.low, x.high, kLeft, kWidth - kRight, false);
  frame.y = make_scale(chart.from_zero && y.low == 0 ? 0 : y.low - room, y.high + room, kHeight - kBottom, kTop, logarithmic);
  return frame;
}

std::string value_text(const LineChart& chart, double value, int digits) {
  return chart.percent ? short_number(100 * value, digits) + " %" : short_number(value, digits);
}

std::string axes(const LineChart& chart, const Frame& frame) {
  std::string svg = "<g class=\"axis\">";
  for (const double tick : ticks(frame.y, 5)) {
    if (chart.whole && tick != std::round(tick)) continue;
    const std::string y = coordinate(frame.y.at(tick));
    svg += fmt::format("<path class=\"grid\" d=\"M{} {}H{}\"/><text x=\"{}\" y=\"{}\" dy=\".32em\" text-anchor=\"end\">{}</text>", kLeft, y, kWidth - kRight,
                       kLeft - 5, y, escape(value_text(chart, tick, 4)));
  }
  for (const double tick : ticks(frame.x, 5)) {
    const double x = frame.x.at(tick);
    svg += fmt::format("<path class=\"tick\" d=\"M{} {}v4\"/><text x=\"{}\" y=\"{}\" text-anchor=\"{}\">{}</text>", coordinate(x), kHeight - kBottom,
                       coordinate(x), kHeight - kBottom + 15, x > kWidth - kRight - 14 ? "end" : "middle", escape(short_number(tick)));
  }
  svg += fmt::format("<path class=\"base\" d=\"M{} {}H{}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text></g>", kLeft, kHeight - kBottom,
                     kWidth - kRight, (kLeft + kWidth - kRight) / 2, kHeight - 3, escape(chart.x_label));
  return svg;
}

std::string series_svg(const LineChart& chart, const Series& series, const std::vector<Point>& points, const Frame& frame) {
  Bounds range;
  double last = std::numeric_limits<double>::quiet_NaN();
  for (const Point& point : points) {
    range.add(point.y);
    if (std::isfinite(point.y)) last = point.y;
  }
  const std::vector<Point> shown = thinned(points);
  const bool faint = chart.smooth && points.size() >= 50;
  std::string svg =
      fmt::format("<g class=\"series s{0}\" data-name=\"{1}\"><title>{1}: last {2}, lowest {3}, highest {4}, {5} points</title>", series.style % kStyles,
                  escape(series.name), value_text(chart, last, 5), value_text(chart, range.low, 5), value_text(chart, range.high, 5), points.size());
  svg += fmt::format("<path class=\"line{}\" d=\"{}\"/>", faint ? " faint" : "", path_of(shown, frame.x, frame.y));
  if (faint) svg += fmt::format("<path class=\"mean\" d=\"{}\"/>", path_of(thinned(smoothed(points)), frame.x, frame.y));
  if (points.size() == 1 || (series.markers && points.size() <= kMarkers)) {
    for (const Point& point : points) {
      if (!std::isfinite(point.y) || (frame.y.logarithmic && point.y <= 0)) continue;
      svg += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"3\"><title>{}: {} at {} {}</title></circle>", coordinate(frame.x.at(point.x)),
                         coordinate(frame.y.at(point.y)), escape(series.name), value_text(chart, point.y, 5), escape(chart.x_label), short_number(point.x));
    }
  }
  return svg + "</g>";
}

// For the page's program: values, places, whether logarithmic.
std::string scale_text(const Scale& scale, double factor) {
  return fmt::format("{:.10g} {:.10g} {} {} {}", factor * scale.low, factor * scale.high, scale.begin, scale.end, scale.logarithmic ? 1 : 0);
}

std::string caption(const LineChart& chart, const std::string& more) {
  const std::string unit = chart.unit.empty() ? "" : fmt::format(" <span class=\"unit\">{}</span>", escape(chart.unit));
  return fmt::format("<figcaption><b>{}</b>{}{}</figcaption>", escape(chart.title), unit, more);
}

}  // namespace

std::string to_html(const LineChart& chart) {
  std::vector<std::vector<Point>> lines;
  bool any = false;
  for (const Series& series : chart.series) {
    lines.push_back(points_of(series));
    any = any || std::any_of(lines.back().begin(), lines.back().end(), [](const Point& point) { return std::isfinite(point.y); });
  }
  if (!any) return fmt::format("<figure class=\"chart\">{}<p class=\"none\">no finite values</p></figure>", caption(chart, ""));
  const Frame frame = frame_of(chart, lines);
  const std::string cut =
      frame.cut ? std::string(" <span class=\"unit\" title=\"the frame fits what follows the first tenth\">(the beginning is cut off)</span>") : "";
  std::string svg = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\" data-x=\"{}\" data-y=\"{}\" data-label=\"{}\" data-unit=\"{}\">{}",
                                kWidth, kHeight, escape(chart.title), scale_text(frame.x, 1), scale_text(frame.y, chart.percent ? 100 : 1),
                                escape(chart.x_label), chart.percent ? " %" : "", axes(chart, frame));
  // An inner drawing cuts off what lies outside the frame.
  svg += fmt::format("<svg x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{3}\" viewBox=\"{0} {1} {2} {3}\">", kLeft - 4, kTop - 4, kWidth - kLeft - kRight + 8,
                     kHeight - kTop - kBottom + 8);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (!lines[i].empty()) svg += series_svg(chart, chart.series[i], lines[i], frame);
  }
  return fmt::format("<figure class=\"chart\">{}{}</svg></svg></figure>", caption(chart, cut), svg);
}

std::string legend(const std::vector<std::pair<int, std::string>>& entries) {
  std::string html = "<ul class=\"legend\">";
  for (const auto& [style, name] : entries) {
    html += fmt::format("<li><svg viewBox=\"0 0 28 10\" class=\"key\"><g class=\"series s{}\"><path class=\"line\" d=\"M1 5H27\"/></g></svg>{}</li>",
                        style % kStyles, escape(name));
  }
  return html + "</ul>";
}

}  // namespace switchyard
