#include "src/profile/exchanger.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "comm/mpi.h"
#include "kernels/memory.h"
#include "src/base/checked.h"

namespace switchyard {
namespace {

constexpr int64_t kWordsPerRow = kPayloadMultiple / 4;
constexpr Call kCall{"profile", -1};

class CommunicatorExchanger final : public Exchanger {
 public:
  explicit CommunicatorExchanger(Communicator& communicator) : communicator_(communicator) {}

  void prepare(const Traffic& traffic) override {
    const int me = communicator_.rank();
    send_.clear();
    receive_.clear();
    int64_t out = 0, in = 0;
    for (int peer = 0; peer < traffic.ranks; ++peer) {
      const int64_t to = traffic.at(me, peer) / kPayloadMultiple, from = traffic.at(peer, me) / kPayloadMultiple;
      if (to > 0) send_.push_back({peer, out, to});
      if (from > 0) receive_.push_back({peer, in, from});
      out += to;
      in += from;
    }
    rows_ = out;
    inbox_memory_ = make_buffer(Dtype::kI32, {in, kWordsPerRow});
    inbox_ = inbox_memory_.tensor(Dtype::kI32, {in, kWordsPerRow});
  }
  uint32_t* open() override {
    outbox_ = communicator_.outbox(OutboxUse::kExchange, Dtype::kI32, rows_, kWordsPerRow);
    return static_cast<uint32_t*>(outbox_.data());
  }
  void exchange() override { communicator_.wait(communicator_.all_to_all(kCall, outbox_, send_, inbox_, receive_, Event())); }
  uint32_t* inbox() override { return static_cast<uint32_t*>(inbox_.data()); }

 private:
  Communicator& communicator_;
  int64_t rows_ = 0;
  std::vector<Segment> send_, receive_;
  Buffer inbox_memory_;
  Tensor outbox_, inbox_;
};

class AlltoallvExchanger final : public Exchanger {
 public:
  explicit AlltoallvExchanger(MPI_Comm comm) : comm_(duplicate(comm)) {}

  void prepare(const Traffic& traffic) override {
    const int me = comm_.rank();
    int64_t out = 0, in = 0;
    for (std::vector<int>* list : {&send_counts_, &send_places_, &receive_counts_, &receive_places_}) list->clear();
    for (int peer = 0; peer < traffic.ranks; ++peer) {
      send_counts_.push_back(to_int(traffic.at(me, peer)));
      send_places_.push_back(to_int(out));
      receive_counts_.push_back(to_int(traffic.at(peer, me)));
      receive_places_.push_back(to_int(in));
      out += traffic.at(me, peer);
      in += traffic.at(peer, me);
    }
    outbox_ = Buffer(out);
    inbox_ = Buffer(in);
  }
  uint32_t* open() override { return static_cast<uint32_t*>(outbox_.data()); }
  void exchange() override {
    const int status = MPI_Alltoallv(outbox_.data(), send_counts_.data(), send_places_.data(), MPI_BYTE, inbox_.data(), receive_counts_.data(),
                                     receive_places_.data(), MPI_BYTE, comm_.get());
    check_mpi(status, "MPI_Alltoallv", comm_.rank(), kCall);
  }
  uint32_t* inbox() override { return static_cast<uint32_t*>(inbox_.data()); }

 private:
  static MPI_Comm duplicate(MPI_Comm comm) {
    MPI_Comm copy = MPI_COMM_NULL;
    check_mpi(MPI_Comm_dup(comm, &copy), "MPI_Comm_dup", 0, kCall);
    return copy;
  }
  static int to_int(int64_t bytes) {
    if (bytes <= std::numeric_limits<int>::max()) return static_cast<int>(bytes);
    throw Error(ExitCode::kUsage, fmt::format("MPI_Alltoallv counts to 2^31 - 1 bytes, but a rank's buffer has {}: leave out mpi-alltoallv", bytes));
  }

  MpiComm comm_;
  std::vector<int> send_counts_, send_places_, receive_counts_, receive_places_;  // [P] bytes
  Buffer outbox_, inbox_;
};

}  // namespace

std::unique_ptr<Exchanger> make_exchanger(Communicator& communicator) { return std::make_unique<CommunicatorExchanger>(communicator); }
std::unique_ptr<Exchanger> make_alltoallv_exchanger(MPI_Comm comm) { return std::make_unique<AlltoallvExchanger>(comm); }

int64_t outbox_bytes(const Traffic& traffic) {
  int64_t most = 0;
  for (int rank = 0; rank < traffic.ranks; ++rank) most = std::max(most, traffic.sent(rank));
  return most;
}

}  // namespace switchyard
