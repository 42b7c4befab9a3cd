// The report: one page about runs that needs nothing else, no network, no fonts, no library.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/report/read_run.h"
#include "src/report/routed_text.h"

namespace switchyard {

struct Report {
  std::vector<RunRecord> runs;  // one at least; the first has the first colour
  std::optional<RoutedText> text;
  std::string text_note;  // why there is no text, or what is special about it
};

// HTML with inline SVG: key figures, alarms, curves of all runs, what routers and experts did in each, time by phase, the
// routed text, configurations. Everything that came from files is escaped.
std::string report_page(Report report);

}  // namespace switchyard
