// The checkpoints of a run as entries of its directory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/checkpoint/files.h"

namespace switchyard {

std::string checkpoint_name(int64_t step);  // "step-000001200"
// Steps of real directories (no links) with such a name, newest first.
std::vector<int64_t> list_checkpoints_at(int run);

// Removes the checkpoints that are older than the newest max(keep, 2) sound ones; all stay where keep is 0. One that is
// removed first loses its name, so that half of it never looks whole. Errors are left for the next time.
void retain_checkpoints(FileCalls& calls, int run, int keep) noexcept;
// Gives a damaged checkpoint a name that is never loaded: ".damaged-step-...-<n>". False where it cannot.
bool quarantine_checkpoint(FileCalls& calls, int run, int64_t step) noexcept;
// Removes what a crash left: ".tmp-*" and ".trash-*".
void remove_leftovers(FileCalls& calls, int run) noexcept;

}  // namespace switchyard
