// NCCL: making, splitting and ending communicators, and their errors.
#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <thread>
#include <utility>

#include "tests/cuda_emulation/nccl_communicator.h"
#include "tests/cuda_emulation/runtime.h"

namespace switchyard::emulation {
namespace {

// What an ncclUniqueId carries.
struct Ticket {
  int root = 0;  // in the world; it makes the acquaintance of the members, of which it is one
  int id = 0;
};

// A number that no other communicator of this rank's choice, or any other rank's, has.
int next_id() {
  static int serial = 0;
  return (serial++ * world_size() + world_rank()) % 1023 + 1;
}

std::string& last_sentence() {
  static std::string* const sentence = new std::string;
  return *sentence;
}

void fill_members(Members& members, int id, std::vector<int> world_ranks) {
  members.id = id;
  members.world_rank = std::move(world_ranks);
  members.sent.assign(members.world_rank.size(), 0);
  members.expected.assign(members.world_rank.size(), 0);
}

// How the members of a new communicator learn of one another: each tells the root its rank, the root tells all.
class Acquaintance {
 public:
  Acquaintance(ncclComm_t comm, Ticket ticket, int size, int rank) : comm_(comm), ticket_(ticket), list_(static_cast<size_t>(size), -1), rank_(rank) {}

  bool poll() {
    const int size = static_cast<int>(list_.size());
    const int own = world_rank();
    if (own != ticket_.root) {
      if (!std::exchange(told_, true)) send_control(ticket_.root, ticket_.id, {rank_, size, own});
      std::vector<int> words;
      if (!receive_control(ticket_.root, ticket_.id, words)) return false;
      return conclude(words);
    }
    if (!std::exchange(told_, true)) add(rank_, size, own);
    std::vector<int> words;
    while (heard_ < size && receive_control(-1, ticket_.id, words)) add(words[0], words[1], words[2]);
    if (heard_ < size) return false;
    const std::vector<int> answer = agreed_ ? list_ : std::vector<int>();
    for (const int member : tellers_) {
      if (member != own) send_control(member, ticket_.id, answer);
    }
    return conclude(answer);
  }

 private:
  void add(int rank, int size, int from) {
    ++heard_;
    tellers_.push_back(from);
    agreed_ = agreed_ && size == static_cast<int>(list_.size()) && rank >= 0 && rank < size && list_[static_cast<size_t>(rank)] < 0;
    if (agreed_) list_[static_cast<size_t>(rank)] = from;
  }

  bool conclude(const std::vector<int>& list) {
    if (list.empty()) {
      comm_->error = refuse(ncclInvalidArgument, "the ranks of a new communicator disagree about its size, or two have the same rank");
      return true;
    }
    fill_members(*comm_->members, ticket_.id, list);
    comm_->created = true;
    return true;
  }

  ncclComm_t comm_;
  Ticket ticket_;
  std::vector<int> list_;  // world rank of each member
  int rank_;
  bool told_ = false;
  int heard_ = 0;
  bool agreed_ = true;
  std::vector<int> tellers_;
};

struct Choice {
  int color;
  int key;
  int id;  // for a communicator of which this rank is the first
};

// Those of this rank's colour, by key, then by rank.
void take_sides(ncclComm_t part, const Members& all, const std::vector<Choice>& choices) {
  const Choice& own = choices[static_cast<size_t>(all.rank)];
  std::vector<int> ranks;
  for (int rank = 0; rank < all.size(); ++rank) {
    if (choices[static_cast<size_t>(rank)].color == own.color) ranks.push_back(rank);
  }
  std::stable_sort(ranks.begin(), ranks.end(), [&](int a, int b) { return choices[static_cast<size_t>(a)].key < choices[static_cast<size_t>(b)].key; });
  std::vector<int> world_ranks;
  for (const int rank : ranks) world_ranks.push_back(all.world_rank[static_cast<size_t>(rank)]);
  part->members->rank = static_cast<int>(std::find(ranks.begin(), ranks.end(), all.rank) - ranks.begin());
  fill_members(*part->members, choices[static_cast<size_t>(ranks.front())].id, world_ranks);
  part->created = true;
}

bool blocks(const ncclConfig_t* config, bool otherwise) {
  return config == nullptr || config->blocking == NCCL_CONFIG_UNDEF_INT ? otherwise : config->blocking != 0;
}

ncclComm_t new_comm(bool blocking, int rank) {
  auto* comm = new ncclComm;
  comm->members = std::make_shared<Members>();
  comm->members->rank = rank;
  comm->blocking = blocking;
  comm->device = runtime().ordinal;
  return comm;
}

}  // namespace

Group& group() {
  static Group* const the_group = new Group;
  return *the_group;
}

ncclResult_t refuse(ncclResult_t code, const std::string& sentence) {
  last_sentence() = sentence;
  return code;
}

ncclResult_t check_usable(ncclComm_t comm) {
  if (comm == nullptr) return refuse(ncclInvalidArgument, "the communicator is null");
  if (comm->pending) return refuse(ncclInvalidUsage, "the communicator is still in progress: poll ncclCommGetAsyncError first");
  return comm->created ? ncclSuccess : refuse(ncclInvalidUsage, "the communicator was not created");
}

ncclResult_t finish(ncclComm_t comm, std::function<bool()> poll) {
  if (!comm->blocking) {
    comm->pending = std::move(poll);
    return ncclInProgress;
  }
  while (!poll()) make_progress(runtime().default_stream);
  return comm->error;
}

}  // namespace switchyard::emulation

using namespace switchyard::emulation;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInternalError: return "internal error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t) { return last_sentence().c_str(); }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const Ticket ticket{world_rank(), next_id()};
  *id = {};
  std::memcpy(id->internal, &ticket, sizeof ticket);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  *comm = nullptr;
  if (rank < 0 || rank >= size) return refuse(ncclInvalidArgument, "the rank is not below the number of ranks");
  if (size > world_size()) return refuse(ncclInvalidArgument, "more ranks than mpirun started");
  if (take_injected() != cudaSuccess || device_count() == 0) return refuse(ncclUnhandledCudaError, "there is no device");
  Ticket ticket;
  std::memcpy(&ticket, id.internal, sizeof ticket);
  *comm = new_comm(blocks(config, true), rank);
  const auto acquaintance = std::make_shared<Acquaintance>(*comm, ticket, size, rank);
  return finish(*comm, [acquaintance] { return acquaintance->poll(); });
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) { return ncclCommInitRankConfig(comm, size, id, rank, nullptr); }

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* part, ncclConfig_t* config) {
  *part = nullptr;
  if (const ncclResult_t unusable = check_usable(comm); unusable != ncclSuccess) return unusable;
  const auto own = std::make_shared<Choice>(Choice{color, key, next_id()});
  const auto exchange = std::make_shared<Exchange>(comm->members);
  const Label label{Call::kSplit, 0, 0, sizeof(Choice)};
  for (int peer = 0; peer < comm->members->size(); ++peer) {
    exchange->send(peer, label, own.get());
    exchange->receive(peer, label);
  }
  const ncclComm_t made = new_comm(blocks(config, comm->blocking), 0);
  exchange->then([made, own, all = comm->members](const std::vector<Bytes>& payloads) {
    std::vector<Choice> choices(payloads.size());
    for (size_t i = 0; i < payloads.size(); ++i) std::memcpy(&choices[i], payloads[i].data(), sizeof(Choice));
    if (own->color >= 0) take_sides(made, *all, choices);
  });
  if (color >= 0) *part = made;
  // A rank without a colour takes part, and then has no use for what it made.
  return finish(color >= 0 ? made : comm, [exchange, made, color] {
    if (!exchange->poll()) return false;
    if (color < 0) delete made;
    return true;
  });
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (comm == nullptr) return ncclInvalidArgument;
  return finish(comm, [members = comm->members] {
    if (members->outstanding > 0) make_progress(runtime().default_stream);
    return members->outstanding == 0;
  });
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  while (comm->members->outstanding > 0 && runtime().broken == cudaSuccess) make_progress(runtime().default_stream);
  delete comm;
  return ncclSuccess;
}

// What streams hold of it ends as if it were done. The other ranks wait until they abort, too.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  comm->members->aborted = true;
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  if (comm == nullptr) return ncclInvalidArgument;
  if (comm->pending) {
    const std::function<bool()> poll = std::move(comm->pending);
    comm->pending = nullptr;
    if (!poll()) comm->pending = poll;
  }
  make_progress(runtime().default_stream);
  *error = comm->pending ? ncclInProgress : !comm->members->complaint.empty() ? ncclInvalidUsage : comm->error;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  if (const ncclResult_t unusable = check_usable(comm); unusable != ncclSuccess) return unusable;
  *count = comm->members->size();
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  if (const ncclResult_t unusable = check_usable(comm); unusable != ncclSuccess) return unusable;
  *rank = comm->members->rank;
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  if (const ncclResult_t unusable = check_usable(comm); unusable != ncclSuccess) return unusable;
  *device = comm->device;
  return ncclSuccess;
}

}  // extern "C"
