// What the two halves of `switchyard profile` share.
#pragma once

#include <CLI/CLI.hpp>
#include <vector>

#include "comm/mpi_session.h"
#include "src/cli/commands.h"

namespace switchyard {

void add_profile_alltoall(CLI::App& profile, Commands& commands);
void add_profile_step(CLI::App& profile, Commands& commands);

// The host of every rank, numbered from 0 in order of their first ranks. Collective.
std::vector<int> numbered_hosts(const MpiSession& session);
// The same ranks, `per_host` on each host, one host filled after another; `hosts` itself where that is 0.
std::vector<int> pretended_hosts(const std::vector<int>& hosts, int per_host);

}  // namespace switchyard
