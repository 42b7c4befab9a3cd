// switchyard profile: what communication costs, in a sweep of the links and in a step of the user's own configuration.
#include "src/cli/profile.h"

#include <algorithm>
#include <map>

namespace switchyard {

std::vector<int> numbered_hosts(const MpiSession& session) {
  if (!session.active()) return {0};
  std::vector<int> hosts = hosts_of_ranks(session.world());
  std::map<int, int> numbers;
  for (int& host : hosts) host = numbers.try_emplace(host, static_cast<int>(numbers.size())).first->second;
  return hosts;
}

std::vector<int> pretended_hosts(const std::vector<int>& hosts, int per_host) {
  std::vector<int> pretended = hosts;
  for (size_t rank = 0; per_host > 0 && rank < hosts.size(); ++rank) pretended[rank] = static_cast<int>(rank) / per_host;
  return pretended;
}

void add_profile(CLI::App& program, Commands& commands) {
  CLI::App& command = *program.add_subcommand("profile", "Measure all-to-all exchanges, or where the time of a training step goes; run by mpirun");
  command.require_subcommand(1);
  add_profile_alltoall(command, commands);
  add_profile_step(command, commands);
}

}  // namespace switchyard
