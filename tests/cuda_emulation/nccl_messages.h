// Bytes between ranks for the emulated NCCL: numbered messages over MPI, each of which says what it is.
//
// The n-th message that a rank issues to a peer is the n-th that the peer expects of it, whatever the order in which their
// streams come to it. A message that is not what its receiver expects, in call, type, operation or size, breaks the
// device with a sentence, where NCCL would hang or deliver rubbish.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/mpi_api.h"

namespace switchyard::emulation {

using Bytes = std::vector<std::byte>;

// This process among those of mpirun; a world of one where MPI has not been initialised.
int world_rank();
int world_size();

enum class Call : int32_t { kSend, kAllReduce, kReduceScatter, kAllGather, kBroadcast, kAllToAll, kSplit };

// What sender and receiver must agree on.
struct Label {
  Call call = Call::kSend;
  int32_t type = 0;
  int32_t detail = 0;  // of reductions the operation, of a broadcast the root
  uint64_t bytes = 0;
  bool operator==(const Label&) const = default;
};
std::string describe(const Label& label);

// Shared by a communicator's handle and its work in streams, which may outlive the handle.
struct Members {
  int id = 0;                   // the same on all members, another than that of any other communicator of theirs
  int rank = 0;                 // in the communicator
  std::vector<int> world_rank;  // of each member
  bool aborted = false;
  std::string complaint;                 // what ncclCommGetAsyncError reports
  int outstanding = 0;                   // exchanges that streams have not finished
  std::vector<uint32_t> sent, expected;  // to and from each member so far
  std::map<uint32_t, Bytes> to_self;     // messages to this rank itself, by number

  int size() const { return static_cast<int>(world_rank.size()); }
};

// One collective, or one send or receive, on one rank.
class Exchange {
 public:
  explicit Exchange(std::shared_ptr<Members> members) : members_(std::move(members)) {}
  // What MPI may still read outlives it: after an abort, or a fault, the other ranks may never receive.
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // At the time of the call: fixes which messages these are. `source` is read when the exchange starts.
  void send(int peer, const Label& label, const void* source);
  void receive(int peer, const Label& label);
  // What to do with what arrived, in the order of the calls of receive.
  void then(std::function<void(const std::vector<Bytes>&)> finish) { finish_ = std::move(finish); }

  // Starts, or goes on; true when all is sent and received and `finish` was called, or the communicator was aborted.
  bool poll();

 private:
  struct Outgoing {
    int peer;
    uint32_t number;
    Label label;
    const void* source;
  };
  struct Incoming {
    int peer;
    uint32_t number;
    Label label;
    bool arrived = false;
  };

  void start();
  bool all_is_sent();
  void look_for(Incoming& incoming, Bytes& payload);
  void accept(const Incoming& incoming, Bytes message, Bytes& payload);

  std::shared_ptr<Members> members_;
  std::vector<Outgoing> outgoing_;
  std::vector<Incoming> incoming_;
  std::function<void(const std::vector<Bytes>&)> finish_;
  bool started_ = false;
  std::vector<Bytes> messages_;  // on their way out
  std::vector<Bytes> payloads_;  // of each incoming
  std::vector<MPI_Request> requests_;
};

// Messages by which communicators are made, told apart by a communicator's id.
void send_control(int world_rank, int id, const std::vector<int>& words);
// False where none has come from `world_rank` (-1: from anyone) yet.
bool receive_control(int world_rank, int id, std::vector<int>& words);

}  // namespace switchyard::emulation
