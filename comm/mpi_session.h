// The life of MPI in this process, from what the launcher says to MPI_Finalize.
//
// MPI is initialised only where a launcher started this process as one of its ranks; otherwise the world is one rank and
// MPI is never touched. A launcher that says more ranks than the process can see is an error, not a world of one.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "comm/host.h"
#include "comm/mpi_api.h"
#include "comm/watchdog.h"
#include "src/base/error.h"

namespace switchyard {

// Looks up an environment variable.
using Environment = std::function<std::optional<std::string>(const char* name)>;
std::optional<std::string> process_environment(const char* name);

// What the launcher says about the world.
struct Launch {
  bool by_mpi = false;    // an MPI or PMIx launcher started this process
  int ranks = 1;          // in all
  int ranks_on_host = 0;  // 0: it does not say
  bool bound = false;     // to a part of the host's cores
  std::string said_by;    // the variable that gave `ranks`; empty if none did
};

// Throws Error(kUsage) where a variable is not a number. The nearest launcher holds: mpirun's own variables before those
// of a Slurm job around it.
Launch read_launch(const Environment& environment);

bool launched_by_mpi(const Environment& environment = process_environment);

// Throws Error(kUsage) where a world of `ranks` ranks is one although the launcher says more.
void check_world(const Launch& launch, int ranks);

class MpiSession {
 public:
  // Where more ranks than cores are on this host, MPI is told to yield while it waits, unless the user decided that.
  // Throws Error(kUsage) for a world of one where the launcher says more, Error(kFailure) where MPI does not start.
  explicit MpiSession(const Environment& environment = process_environment);
  // Finalises MPI, which waits for all ranks. Not where an exception is on its way: then the launcher ends the others.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  bool active() const { return active_; }  // MPI is initialised
  int rank() const { return rank_; }
  int size() const { return size_; }
  const Host& host() const { return host_; }
  MPI_Comm world() const { return MPI_COMM_WORLD; }

  // From now on this rank's watchdog watches every communicator that make_communicator makes, and MPI's end. Collective.
  void start_watchdog(WatchdogOptions options);
  Watchdog* watchdog() const { return watchdog_.get(); }  // null before

  // A sentence where this host has more ranks than cores.
  std::optional<std::string> warning() const;

  // Ends the whole job.
  [[noreturn]] void abort(ExitCode code) const;

 private:
  bool active_ = false;
  int rank_ = 0;
  int size_ = 1;
  Host host_;
  std::unique_ptr<Watchdog> watchdog_;
};

}  // namespace switchyard
