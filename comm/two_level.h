// Ranks of a host exchange among themselves, hosts exchange aggregated rows: H(H-1) messages between hosts for an
// all_to_all instead of one for every pair of ranks on different hosts.
//
// An all_to_all goes in three parts. `collect`: ranks of a host hand rows for another host to the one rank that sends
// there (and rows for one another to themselves). `across`: one message for each pair of hosts. `deliver`: the rank that
// received hands the rows to those that they are for. all_to_all returns when the message between hosts is on its way;
// the next operation, or wait, delivers. The counts that this needs travel inside hosts only.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "comm/window.h"

namespace switchyard {

struct TwoLevelParts {
  std::unique_ptr<Communicator> across;   // all ranks; its exchange and bucket outboxes grow
  std::unique_ptr<Communicator> collect;  // the ranks of this host, in their order; outboxes of the sizes asked for
  std::unique_ptr<Communicator> deliver;  // the same ranks
  int64_t deliver_bytes = 0;              // of an exchange outbox of `deliver`; 0: it grows
  std::vector<int> hosts;                 // [P] a number for each rank that the ranks of its host share
};

// What all_to_alls have moved so far, sent by this rank: payload that leaves its host, and the messages that carry it.
struct HostTraffic {
  int64_t messages_between_hosts = 0;
  int64_t bytes_between_hosts = 0;
  int64_t bytes_within_host = 0;  // to other ranks, of both parts inside the host
};

class TwoLevelCommunicator : public Communicator {
 public:
  virtual const HostTraffic& traffic() const = 0;
};

// Throws InternalError where the parts are not of the same ranks.
std::unique_ptr<TwoLevelCommunicator> make_two_level_communicator(TwoLevelParts parts);

struct TwoLevelOverMpi {
  std::unique_ptr<TwoLevelCommunicator> communicator;
  bool windows = true;  // inside every host; false: inside some, messages, because shared memory has no room
};

// Messages of MPI between hosts, windows inside them. hosts[r] is the host of rank r of `parent`, as hosts_of_ranks
// gives it or as a test pretends. Collective.
TwoLevelOverMpi make_two_level_over_mpi(MPI_Comm parent, OutboxSizes sizes, std::span<const int> hosts, const WindowOptions& options = {});

}  // namespace switchyard
