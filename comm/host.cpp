#include "comm/host.h"

#include <sched.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "comm/mpi.h"

namespace switchyard {

Host find_host(MPI_Comm comm) {
  const Call call{"start", -1};
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm part = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &part), "MPI_Comm_split_type", rank, call);
  const MpiComm node(part);
  // Ranks that a launcher bound see only their own cores: the host has the union.
  cpu_set_t mine;
  CPU_ZERO(&mine);
  sched_getaffinity(0, sizeof mine, &mine);
  cpu_set_t all;
  CPU_ZERO(&all);
  check_mpi(MPI_Allreduce(&mine, &all, static_cast<int>(sizeof mine), MPI_BYTE, MPI_BOR, node.get()), "MPI_Allreduce", rank, call);
  return {node.size(), std::max(CPU_COUNT(&all), 1)};
}

std::vector<int> hosts_of_ranks(MPI_Comm comm) {
  const Call call{"start", -1};
  int rank = 0;
  int size = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  MPI_Comm part = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &part), "MPI_Comm_split_type", rank, call);
  const MpiComm node(part);
  int lowest = rank;
  check_mpi(MPI_Bcast(&lowest, 1, MPI_INT, 0, node.get()), "MPI_Bcast", rank, call);
  std::vector<int> hosts(static_cast<size_t>(size));
  check_mpi(MPI_Allgather(&lowest, 1, MPI_INT, hosts.data(), 1, MPI_INT, comm), "MPI_Allgather", rank, call);
  return hosts;
}

int available_cores(bool bound) {
  if (bound) return std::max(static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)), 1);
  cpu_set_t mine;
  CPU_ZERO(&mine);
  sched_getaffinity(0, sizeof mine, &mine);
  return std::max(CPU_COUNT(&mine), 1);
}

int64_t free_shared_memory() {
  constexpr const char* kDirectory = "/dev/shm";  // where OpenMPI puts the file of a shared window
  if (access(kDirectory, W_OK) != 0) return 0;
  struct statvfs room;
  if (statvfs(kDirectory, &room) != 0) return 0;
  return static_cast<int64_t>(room.f_bavail) * static_cast<int64_t>(room.f_frsize);
}

}  // namespace switchyard
