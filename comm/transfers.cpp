#include "comm/transfers.h"

#include <algorithm>
#include <string>

#include "src/base/checked.h"

namespace switchyard {
namespace {

constexpr int64_t kAlignment = 4096;  // boxes of a shared window begin on a page

int64_t asked_bytes(OutboxSizes sizes, int box) { return box < 2 ? sizes.exchange_bytes : sizes.bucket_bytes; }

}  // namespace

int64_t Transfer::bytes_to_others(int rank, int size) const {
  int64_t rows = 0;
  for (int peer = 0; peer < size; ++peer) rows += peer == rank ? 0 : send.rows(peer);
  return rows * row_bytes;
}

int64_t box_bytes(OutboxSizes sizes, int box) { return round_up(std::max<int64_t>(asked_bytes(sizes, box), 1), kAlignment); }

Transfers::Transfers(int rank, int size, OutboxSizes sizes, Memory& memory) : rank_(rank), size_(size), sizes_(sizes), owner_(memory) {
  for (int box = 0; box < kBoxes; ++box) {
    const size_t b = static_cast<size_t>(box);
    owned_[b] = Buffer(box_bytes(sizes, box), memory);
    capacity_[b] = asked_bytes(sizes, box) > 0 ? asked_bytes(sizes, box) : owned_[b].bytes();
    memory_[b] = owned_[b].data();
    transfers_[b].box = box;
  }
}

Transfers::Transfers(int rank, int size, OutboxSizes sizes, std::array<void*, kBoxes> memory) : Transfers(rank, size, OutboxSizes{}) {
  sizes_ = sizes;
  for (int box = 0; box < kBoxes; ++box) {
    const size_t b = static_cast<size_t>(box);
    owned_[b] = Buffer();
    memory_[b] = memory[b];
    capacity_[b] = asked_bytes(sizes, box);
  }
}

Tensor Transfers::hand_out(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns) {
  check(rows >= 0 && columns >= 0, "outbox: a negative number of rows or columns");
  const size_t box = static_cast<size_t>(next_box(use));
  check(!transfers_[box].pending, "outbox: its last transfer is still under way");
  const int64_t bytes = checked_multiply(checked_multiply(rows, columns), size_of(dtype));
  if (bytes > capacity_[box]) {
    const bool grows = owned_[box].data() != nullptr && asked_bytes(sizes_, static_cast<int>(box)) == 0;
    if (!grows) {
      throw InternalError("an outbox of " + std::to_string(capacity_[box]) + " bytes was asked to hold " + std::to_string(rows) + " rows of " +
                          std::to_string(columns) + " " + name(dtype) + ": the sizes that the communicator was made with are too small");
    }
    owned_[box] = Buffer();  // frees first
    owned_[box] = Buffer(bytes + bytes / 2, owner_);
    memory_[box] = owned_[box].data();
    capacity_[box] = owned_[box].bytes();
  }
  handed_out_[box] = true;
  return Tensor(memory_[box], dtype, {rows, columns}, owner_.device());
}

Transfer& Transfers::begin(Call call, const Tensor& outbox, std::span<const Segment> send, const Tensor& inbox, std::span<const Segment> receive) {
  const auto place = std::find(memory_.begin(), memory_.end(), outbox.data());
  check(place != memory_.end(), "all_to_all: its first tensor is not an outbox of this communicator");
  const size_t box = static_cast<size_t>(place - memory_.begin());
  check(handed_out_[box], "all_to_all: this outbox was sent already; ask for the next one");
  check_operand(outbox, owner_.device());
  check_operand(inbox, owner_.device());
  check(outbox.dtype() == inbox.dtype() && outbox.columns() == inbox.columns(), "all_to_all: outbox and inbox differ in dtype or row width");
  Transfer& transfer = transfers_[box];
  transfer.send.build(send, size_, outbox.rows());
  transfer.receive.build(receive, size_, inbox.rows());
  check(transfer.send.rows(rank_) == transfer.receive.rows(rank_), "all_to_all: a rank sends itself another number of rows than it expects");
  handed_out_[box] = false;
  turn_[box / 2] = 1 - static_cast<int>(box % 2);
  transfer.ticket = ++tickets_;
  transfer.pending = true;
  transfer.call = call;
  transfer.outbox = outbox;
  transfer.inbox = inbox;
  transfer.row_bytes = outbox.columns() * size_of(outbox.dtype());
  return transfer;
}

Transfer* Transfers::find(Event event) {
  if (event.ticket == 0) return nullptr;
  for (Transfer& transfer : transfers_) {
    if (transfer.pending && transfer.ticket == event.ticket) return &transfer;
  }
  return nullptr;
}

void check_operand(const Tensor& tensor, Device device) {
  check(tensor.device() == device || tensor.elements() == 0, "a communicator was given a tensor that is not on its device");
  check(tensor.contiguous(), "a communicator was given a tensor that is not contiguous");
}

int64_t check_gather(const Tensor& mine, const Tensor& all, std::span<const int64_t> rows, int rank, int size, Device device) {
  check_operand(mine, device);
  check_operand(all, device);
  check(static_cast<int>(rows.size()) == size, "all_gather: the row counts are not one per rank");
  int64_t before = 0;
  int64_t total = 0;
  for (int r = 0; r < size; ++r) {
    const int64_t count = rows[static_cast<size_t>(r)];
    check(count >= 0, "all_gather: a negative number of rows");
    if (r < rank) before += count;
    total += count;
  }
  check(mine.rows() == rows[static_cast<size_t>(rank)], "all_gather: this rank brings another number of rows than the counts say");
  check(all.rows() == total, "all_gather: the result has another number of rows than all ranks bring");
  check(mine.dtype() == all.dtype() && mine.columns() == all.columns(), "all_gather: the tensors differ in dtype or row width");
  return before;
}

}  // namespace switchyard
