#include "src/report/share_bars.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "src/report/html.h"
#include "src/report/line_chart.h"

namespace switchyard {
namespace {

constexpr int kHeight = 22;

double whole(const ShareBar& bar) {
  double sum = 0;
  for (const double part : bar.parts) sum += std::isfinite(part) ? std::max(0.0, part) : 0;
  return sum;
}

std::string bar_svg(const ShareBars& chart, const ShareBar& bar, double longest) {
  std::string svg = fmt::format("<svg width=\"100%\" height=\"{}\" role=\"img\" aria-label=\"{}\" class=\"bar\">", kHeight, escape(bar.name));
  const double sum = whole(bar);
  double x = 0;  // of the width, in per cent
  for (size_t i = 0; i < std::min(bar.parts.size(), chart.parts.size()); ++i) {
    if (!std::isfinite(bar.parts[i]) || bar.parts[i] <= 0) continue;
    const double width = 100 * bar.parts[i] / longest;
    const std::string share = percent_text(bar.parts[i] / sum);
    svg += fmt::format("<rect class=\"part f{}\" x=\"{:.2f}%\" y=\"0\" width=\"{:.2f}%\" height=\"{}\"><title>{}: {} {}, {}</title></rect>", i % kStyles, x,
                       width, kHeight, escape(chart.parts[i]), short_number(bar.parts[i], 3), escape(chart.unit), share);
    if (width > 14)
      svg += fmt::format("<text class=\"inside\" x=\"{:.1f}%\" y=\"{}\" dy=\".35em\" text-anchor=\"middle\">{}</text>", x + width / 2, kHeight / 2, share);
    x += width;
  }
  return svg + "</svg>";
}

std::string table(const ShareBars& chart) {
  std::string html = "<div class=\"scroll\"><table><thead><tr><th></th>";
  for (size_t i = 0; i < chart.parts.size(); ++i) {
    html += fmt::format("<th><svg viewBox=\"0 0 14 14\" class=\"key square\"><rect class=\"f{}\" width=\"14\" height=\"14\"/></svg>{}</th>", i % kStyles,
                        escape(chart.parts[i]));
  }
  html += "<th>together</th></tr></thead><tbody>";
  for (const ShareBar& bar : chart.bars) {
    const double sum = whole(bar);
    html += fmt::format("<tr><th>{}</th>", escape(bar.name));
    for (size_t i = 0; i < chart.parts.size(); ++i) {
      const bool known = i < bar.parts.size() && std::isfinite(bar.parts[i]);
      html += known ? fmt::format("<td>{} <span class=\"unit\">{}</span></td>", short_number(bar.parts[i], 3), percent_text(sum > 0 ? bar.parts[i] / sum : 0))
                    : std::string("<td>–</td>");
    }
    html += fmt::format("<td>{}</td></tr>", short_number(sum, 3));
  }
  return html + "</tbody></table></div>";
}

}  // namespace

std::string to_html(const ShareBars& chart) {
  double longest = 0;
  for (const ShareBar& bar : chart.bars) longest = std::max(longest, whole(bar));
  std::string html =
      fmt::format("<figure class=\"chart wide\"><figcaption><b>{}</b> <span class=\"unit\">{}</span></figcaption>", escape(chart.title), escape(chart.unit));
  if (longest == 0) return html + "<p class=\"none\">no finite values</p></figure>";
  html += "<div class=\"bars\">";
  for (const ShareBar& bar : chart.bars) html += fmt::format("<span>{}</span>{}", escape(bar.name), bar_svg(chart, bar, longest));
  return html + "</div>" + table(chart) + "</figure>";
}

}  // namespace switchyard
