#include "src/config/resume.h"

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "src/base/error.h"
#include "src/config/build.h"
#include "src/config/fields.h"

namespace switchyard {
namespace {

bool may_differ(std::string_view path) {
  if (path == "parallel.expert_replicas" || path == "parallel.slices" || path == "parallel.fixed_blocks") return false;
  if (path == "train.steps" || path == "train.epochs" || path == "train.patience" || path == "threads" || path == "device") return true;
  for (const std::string_view group : {"checkpoint.", "eval.", "log.", "parallel."}) {
    if (path.starts_with(group)) return true;
  }
  return false;
}

}  // namespace

Config resume_config(const Config& stored, const Config& asked) {
  Config result = asked;
  if (asked.precision() == Config::AUTO) result.set_precision(stored.precision());
  fill_automatic(result);
  visit_fields(result, [&](const Field& now) {
    const Field before = field(stored, now.path);
    if (may_differ(now.path) || now.text() == before.text()) return;
    throw Error(ExitCode::kUsage, fmt::format("{} is {} but the run to be resumed has {}; keep it, or begin a new run in another --run directory", now.path,
                                              now.shown(), before.shown()));
  });
  return result;
}

}  // namespace switchyard
