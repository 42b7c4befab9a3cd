#include "src/report/page.h"

#include <fmt/format.h>

#include "src/report/figures.h"
#include "src/report/html.h"
#include "src/report/page_style.h"
#include "src/report/sections.h"

namespace switchyard {
namespace {

constexpr size_t kOpenRuns = 3;  // more runs are folded, so that the page stays readable

std::string title_of(const std::vector<RunRecord>& runs) { return runs.size() == 1 ? runs[0].name : fmt::format("{} runs", runs.size()); }

std::string head(const Report& report) {
  const std::string title = escape(title_of(report.runs));
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
      "<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\"><title>switchyard: {}</title><style>{}</style></head>\n",
      title, kPageStyle);
}

std::string header(const Report& report) {
  std::string names;
  for (const RunRecord& run : report.runs) names += fmt::format("{}<code>{}</code>", names.empty() ? "" : ", ", escape(run.path));
  return fmt::format("<header><p class=\"unit\">switchyard report</p><h1>{}</h1><p class=\"lead\">{}</p>{}</header>\n", escape(title_of(report.runs)), names,
                     "<nav><a href=\"#figures\">figures</a> <a href=\"#curves\">curves</a> <a href=\"#experts\">experts</a> <a href=\"#time\">time</a> "
                     "<a href=\"#text\">text</a> <a href=\"#configuration\">configuration</a></nav>");
}

std::string experts(const std::vector<RunRecord>& runs) {
  std::string html;
  for (size_t i = 0; i < runs.size(); ++i) html += experts_section(runs[i], i < kOpenRuns);
  if (html.empty()) html = "<p class=\"none\">no MoE layer in these runs: they are dense, or have not logged a step yet</p>";
  return "<section id=\"experts\"><h2>Routers and experts</h2>" + html + "</section>\n";
}

std::string text_section(const Report& report) {
  std::string html = "<section id=\"text\"><h2>A routed text</h2>";
  if (!report.text_note.empty()) html += fmt::format("<p class=\"none\">{}</p>", escape(report.text_note));
  if (report.text) html += to_html(*report.text);
  return html + "</section>\n";
}

}  // namespace

std::string report_page(Report report) {
  const std::vector<std::string> names = shown_names(report.runs);
  for (size_t i = 0; i < names.size(); ++i) report.runs[i].name = names[i];
  std::string page = head(report) + "<body>" + header(report) + "<main>";
  page += key_figures_section(report.runs) + alarms_section(report.runs) + notes_section(report.runs) + '\n';
  page +=
      curves_section(report.runs) + '\n' + experts(report.runs) + time_section(report.runs) + '\n' + text_section(report) + configuration_section(report.runs);
  return page + fmt::format("</main><div id=\"hover\" hidden></div><script>{}</script></body></html>\n", kPageScript);
}

}  // namespace switchyard
