#include "comm/self.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "comm/transfers.h"

namespace switchyard {
namespace {

class SelfCommunicator final : public Communicator {
 public:
  explicit SelfCommunicator(OutboxSizes sizes) : sizes_(sizes), transfers_(0, 1, sizes) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::unique_ptr<Communicator> split(int, int) override { return make_self_communicator(sizes_); }

  void barrier(Call) override {}
  void broadcast(Call, Tensor tensor, int root) override {
    check_operand(tensor);
    check(root == 0, "broadcast: the root is not a rank of the group");
  }
  void all_gather(Call, const Tensor& mine, Tensor all, std::span<const int64_t> rows) override {
    check_gather(mine, all, rows, 0, 1);
    if (mine.data() != all.data() && mine.bytes() > 0) std::memcpy(all.data(), mine.data(), static_cast<size_t>(mine.bytes()));
  }
  void reduce(Call, std::span<int64_t>, Reduction) override {}

  Tensor outbox(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) override { return transfers_.hand_out(use, dtype, rows, columns); }
  Event all_to_all(Call call, const Tensor& outbox, std::span<const Segment> send, Tensor inbox, std::span<const Segment> receive, Event) override {
    Transfer& transfer = transfers_.begin(call, outbox, send, inbox, receive);
    copy_runs(transfer.send.runs(0), transfer.outbox_bytes(), transfer.receive.runs(0), transfer.inbox_bytes(), transfer.row_bytes);
    transfer.pending = false;
    return Event{transfer.ticket};
  }
  void wait(Event) override {}

  [[noreturn]] void abort(ExitCode code) override {
    std::fflush(nullptr);
    std::_Exit(static_cast<int>(code));
  }
  int64_t bytes_sent() const override { return 0; }

 private:
  OutboxSizes sizes_;
  Transfers transfers_;
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator(OutboxSizes sizes) { return std::make_unique<SelfCommunicator>(sizes); }

}  // namespace switchyard
