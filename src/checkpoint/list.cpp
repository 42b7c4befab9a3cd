#include "src/checkpoint/list.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>

#include "src/checkpoint/reader.h"

namespace switchyard {
namespace {

// -1: not the name of a checkpoint.
int64_t step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (name.size() < kPrefix.size() + 9 || name.size() > kPrefix.size() + 18 || name.compare(0, kPrefix.size(), kPrefix) != 0) return -1;
  int64_t step = 0;
  for (char c : name.substr(kPrefix.size())) {
    if (c < '0' || c > '9') return -1;
    step = step * 10 + (c - '0');
  }
  return checkpoint_name(step) == name ? step : -1;
}

bool starts_with(const std::string& text, std::string_view prefix) { return text.compare(0, prefix.size(), prefix) == 0; }

}  // namespace

std::string checkpoint_name(int64_t step) { return fmt::format("step-{:09d}", step); }

std::vector<int64_t> list_checkpoints_at(int run) {
  std::vector<int64_t> steps;
  for (const std::string& name : list_directory(run)) {
    struct stat status {};
    if (step_of(name) < 0 || ::fstatat(run, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(status.st_mode)) continue;
    steps.push_back(step_of(name));
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

void retain_checkpoints(FileCalls& calls, int run, int keep) noexcept {
  if (keep <= 0) return;
  int sound = 0;
  try {
    for (int64_t step : list_checkpoints_at(run)) {
      const std::string name = checkpoint_name(step);
      if (sound < std::max(keep, 2)) {
        try {
          sound_manifest_at(run, step);
          ++sound;
        } catch (const Error&) {
          // Not counted, and not removed: it may be worth a look.
        }
        continue;
      }
      const std::string trash = ".trash-" + name;
      remove_directory(calls, run, trash);
      if (calls.rename(run, name.c_str(), trash.c_str(), RENAME_NOREPLACE) != 0) continue;
      if (calls.sync(run) == 0) remove_directory(calls, run, trash);
    }
  } catch (const std::exception&) {
    // The checkpoint that was just written is safe; the next one tries again.
  }
}

bool quarantine_checkpoint(FileCalls& calls, int run, int64_t step) noexcept {
  const std::string name = checkpoint_name(step);
  for (int i = 0; i < 100; ++i) {
    const std::string to = ".damaged-" + name + "-" + std::to_string(i);
    if (calls.rename(run, name.c_str(), to.c_str(), RENAME_NOREPLACE) == 0) return true;
  }
  return false;
}

void remove_leftovers(FileCalls& calls, int run) noexcept {
  try {
    for (const std::string& name : list_directory(run)) {
      if (starts_with(name, ".tmp-") || starts_with(name, ".trash-")) remove_directory(calls, run, name);
    }
  } catch (const std::exception&) {
    // They do no harm.
  }
}

}  // namespace switchyard
