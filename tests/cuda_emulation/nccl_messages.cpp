#include "tests/cuda_emulation/nccl_messages.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/runtime.h"

namespace switchyard::emulation {
namespace {

// Tags of MPI_COMM_WORLD. The program's own lie below.
constexpr int kControlTag = 1 << 19;
int message_tag(int id, uint32_t number) { return id << 20 | static_cast<int>(number % (1u << 20)); }
int control_tag(int id) { return kControlTag | id; }

bool mpi_is_up() {
  int up = 0;
  MPI_Initialized(&up);
  return up != 0;
}

// Takes a message that has come, of any length. `source` may be MPI_ANY_SOURCE.
bool take(int source, int tag, Bytes& bytes) {
  int found = 0;
  MPI_Message message = MPI_MESSAGE_NULL;
  MPI_Status status;
  MPI_Improbe(source, tag, MPI_COMM_WORLD, &found, &message, &status);
  if (found == 0) return false;
  int length = 0;
  MPI_Get_count(&status, MPI_BYTE, &length);
  bytes.resize(static_cast<size_t>(length));
  MPI_Mrecv(bytes.data(), length, MPI_BYTE, &message, MPI_STATUS_IGNORE);
  return true;
}

// Buffers of sends that nobody waits for any more.
std::vector<Bytes>& left_behind() {
  static std::vector<Bytes>* const buffers = new std::vector<Bytes>;
  return *buffers;
}

}  // namespace

int world_rank() {
  int rank = 0;
  if (mpi_is_up()) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int world_size() {
  int size = 1;
  if (mpi_is_up()) MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

std::string describe(const Label& label) {
  constexpr const char* kNames[] = {"ncclSend", "ncclAllReduce", "ncclReduceScatter", "ncclAllGather", "ncclBroadcast", "ncclAlltoAll", "ncclCommSplit"};
  return std::string(kNames[static_cast<int>(label.call)]) + " of " + std::to_string(label.bytes) + " bytes (type " + std::to_string(label.type) +
         ", operation or root " + std::to_string(label.detail) + ")";
}

void Exchange::send(int peer, const Label& label, const void* source) {
  outgoing_.push_back({peer, members_->sent[static_cast<size_t>(peer)]++, label, source});
}

void Exchange::receive(int peer, const Label& label) { incoming_.push_back({peer, members_->expected[static_cast<size_t>(peer)]++, label}); }

void Exchange::start() {
  const DeviceAccess access;
  started_ = true;
  payloads_.resize(incoming_.size());
  messages_.reserve(outgoing_.size());  // MPI reads them where they are
  for (const Outgoing& out : outgoing_) {
    Bytes message(sizeof(Label) + out.label.bytes);
    std::memcpy(message.data(), &out.label, sizeof(Label));
    if (out.label.bytes > 0) std::memcpy(message.data() + sizeof(Label), out.source, out.label.bytes);
    if (out.peer == members_->rank) {
      members_->to_self[out.number] = std::move(message);
      continue;
    }
    messages_.push_back(std::move(message));
    requests_.emplace_back();
    MPI_Isend(messages_.back().data(), static_cast<int>(messages_.back().size()), MPI_BYTE, members_->world_rank[static_cast<size_t>(out.peer)],
              message_tag(members_->id, out.number), MPI_COMM_WORLD, &requests_.back());
  }
}

void Exchange::accept(const Incoming& incoming, Bytes message, Bytes& payload) {
  Label label;
  std::memcpy(&label, message.data(), sizeof label);
  if (!(label == incoming.label)) {
    members_->complaint = "NCCL: rank " + std::to_string(members_->rank) + " expects " + describe(incoming.label) + " from rank " +
                          std::to_string(incoming.peer) + ", which issued " + describe(label);
    break_device(members_->complaint.c_str());
  }
  message.erase(message.begin(), message.begin() + sizeof label);
  message.resize(incoming.label.bytes);
  payload = std::move(message);
}

void Exchange::look_for(Incoming& incoming, Bytes& payload) {
  Bytes message;
  if (incoming.peer == members_->rank) {
    const auto found = members_->to_self.find(incoming.number);
    if (found == members_->to_self.end()) return;
    message = std::move(found->second);
    members_->to_self.erase(found);
  } else if (!take(members_->world_rank[static_cast<size_t>(incoming.peer)], message_tag(members_->id, incoming.number), message)) {
    return;
  }
  incoming.arrived = true;
  accept(incoming, std::move(message), payload);
}

bool Exchange::all_is_sent() {
  int sent = 1;
  if (!requests_.empty()) MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &sent, MPI_STATUSES_IGNORE);
  return sent != 0;
}

Exchange::~Exchange() {
  if (all_is_sent()) return;
  for (Bytes& message : messages_) left_behind().push_back(std::move(message));
}

bool Exchange::poll() {
  if (members_->aborted) return true;
  if (!started_) start();
  for (size_t i = 0; i < incoming_.size(); ++i) {
    if (!incoming_[i].arrived) look_for(incoming_[i], payloads_[i]);
  }
  if (!std::all_of(incoming_.begin(), incoming_.end(), [](const Incoming& incoming) { return incoming.arrived; })) return false;
  if (!all_is_sent()) return false;
  const DeviceAccess access;
  if (finish_) finish_(payloads_);
  return true;
}

void send_control(int to, int id, const std::vector<int>& words) {
  MPI_Request request = MPI_REQUEST_NULL;
  static std::vector<std::vector<int>>* const kept = new std::vector<std::vector<int>>;  // until the process ends: a few words for each communicator
  kept->push_back(words);
  MPI_Isend(kept->back().data(), static_cast<int>(words.size()), MPI_INT, to, control_tag(id), MPI_COMM_WORLD, &request);
  MPI_Request_free(&request);
}

bool receive_control(int from, int id, std::vector<int>& words) {
  Bytes bytes;
  if (!take(from < 0 ? MPI_ANY_SOURCE : from, control_tag(id), bytes)) return false;
  words.resize(bytes.size() / sizeof(int));
  std::memcpy(words.data(), bytes.data(), words.size() * sizeof(int));
  return true;
}

}  // namespace switchyard::emulation
