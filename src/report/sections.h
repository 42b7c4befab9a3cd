// The sections of the page, each a pure function to HTML. `runs` have the names under which they are shown.
#pragma once

#include <string>
#include <vector>

#include "src/report/read_run.h"

namespace switchyard {

std::string key_figures_section(const std::vector<RunRecord>& runs);
std::string alarms_section(const std::vector<RunRecord>& runs);
std::string notes_section(const std::vector<RunRecord>& runs);
// Loss and accuracy over steps, FLOPs and seconds, and what is drawn over steps only.
std::string curves_section(const std::vector<RunRecord>& runs);
std::string time_section(const std::vector<RunRecord>& runs);
// What the routers and experts of one run did. `open`: unfolded.
std::string experts_section(const RunRecord& run, bool open);
// The fields in which runs differ, and all fields of a single run.
std::string configuration_section(const std::vector<RunRecord>& runs);

}  // namespace switchyard
