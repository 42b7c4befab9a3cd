#include "comm/mpi_session.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

#include "comm/mpi.h"

namespace switchyard {
namespace {

// The variables that give the number of ranks, the nearest launcher first.
constexpr const char* kSizeVariables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"};
constexpr const char* kYield = "OMPI_MCA_mpi_yield_when_idle";

int positive_number(const char* variable, const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) {
    throw Error(ExitCode::kUsage,
                fmt::format("the launcher's variable {} must be a positive number but is '{}'; unset it or start through mpirun", variable, text));
  }
  return value;
}

}  // namespace

std::optional<std::string> process_environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

bool launched_by_mpi(const Environment& environment) { return environment("OMPI_COMM_WORLD_SIZE") || environment("PMI_SIZE") || environment("PMIX_RANK"); }

Launch read_launch(const Environment& environment) {
  Launch launch;
  launch.by_mpi = launched_by_mpi(environment);
  launch.bound = environment("OMPI_MCA_orte_bound_at_launch").has_value();
  for (const char* variable : kSizeVariables) {
    const std::optional<std::string> text = environment(variable);
    if (!text) continue;
    launch.ranks = positive_number(variable, *text);
    launch.said_by = variable;
    break;
  }
  constexpr const char* kLocalSize = "OMPI_COMM_WORLD_LOCAL_SIZE";
  if (const auto text = environment(kLocalSize)) launch.ranks_on_host = positive_number(kLocalSize, *text);
  return launch;
}

void check_world(const Launch& launch, int ranks) {
  if (ranks > 1 || launch.ranks <= 1) return;
  throw Error(
      ExitCode::kUsage,
      fmt::format("the launcher says {} ranks ({}), but this process is alone: each would train on its own; start with launch/local.sh or mpirun, or with "
                  "srun --mpi=pmix",
                  launch.ranks, launch.said_by));
}

MpiSession::MpiSession(const Environment& environment) {
  const Launch launch = read_launch(environment);
  if (!launch.by_mpi) {
    check_world(launch, 1);
    host_.cores = available_cores(false);
    return;
  }
  // MPI spins while it waits; with more ranks than cores that stops the rank that is waited for.
  if (launch.ranks_on_host > available_cores(launch.bound)) setenv(kYield, "1", 0);
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
    throw Error(ExitCode::kFailure, "MPI did not start; run mpirun hostname to see whether the launcher itself works");
  }
  active_ = true;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  try {
    if (provided < MPI_THREAD_FUNNELED) throw Error(ExitCode::kFailure, "MPI was built without support for threads (MPI_THREAD_FUNNELED), which is needed");
    check_world(launch, size_);
    host_ = find_host(MPI_COMM_WORLD);
  } catch (...) {
    MPI_Finalize();
    throw;
  }
}

MpiSession::~MpiSession() {
  if (!active_ || std::uncaught_exceptions() > 0) return;
  std::optional<Watchdog::Stay> stay;  // it waits for all ranks
  if (watchdog_) stay.emplace(*watchdog_, "MPI_Finalize", Call{"end", -1});
  MPI_Finalize();
}

void MpiSession::start_watchdog(WatchdogOptions options) {
  if (size_ > 1) watchdog_ = std::make_unique<Watchdog>(*make_mpi_communicator(world(), {}), std::move(options));
}

std::optional<std::string> MpiSession::warning() const {
  if (!host_.crowded()) return std::nullopt;
  return fmt::format("{} ranks share {} cores: they take turns, and a step takes longer than on {} ranks", host_.ranks, host_.cores, host_.cores);
}

void MpiSession::abort(ExitCode code) const {
  std::fflush(nullptr);
  if (active_) MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  std::_Exit(static_cast<int>(code));
}

}  // namespace switchyard
