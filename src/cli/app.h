// What commands share: the log, errors, and the start of those that work on ranks.
#pragma once

#include <spdlog/logger.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "src/config/config.pb.h"

namespace CLI {
class App;
}

namespace switchyard {

inline constexpr const char* kVersion = "0.1.0";

// "switchyard: <sentence>" on stderr, as one line.
void print_error(const std::string& sentence);

// To stderr, of rank 0 only; the other ranks' log is silent. Plain lines where stderr is no terminal, with the time of
// day on one.
using Log = std::shared_ptr<spdlog::logger>;
Log make_log(int rank);

// CONFIG [--set k=v]...
struct ConfigArguments {
  std::string path;
  std::vector<std::string> overrides;
};
void add_config_arguments(CLI::App& command, ConfigArguments& arguments);

// Runs `work` with MPI as the launcher wants it, and a watchdog on every rank. Ranks that were started with different
// arguments are refused with ExitCode::kUsage. An error that all ranks agreed on is printed by rank 0, and all leave
// with its code. Any other error of one rank among several is printed by that rank, which ends the job.
ExitCode run_on_ranks(const std::function<ExitCode(const MpiSession&)>& work);

// A communicator for what comes before the configuration is known, over MPI where there are several ranks.
std::unique_ptr<Communicator> make_control(const MpiSession& session);

// Rank 0 reads and validates the configuration for as many ranks as there are; all get it, or all get the same error.
Config shared_config(Communicator& control, const ConfigArguments& arguments);
// `text` of rank 0, on every rank. Collective.
std::string shared_text(Communicator& control, const std::string& text);

}  // namespace switchyard
