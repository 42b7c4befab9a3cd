// What every transport keeps about its all_to_alls: four outboxes, and the transfer that last used each.
//
// Boxes 0 and 1 are the pair of the exchanges, 2 and 3 that of the buckets. A pair is used in turn: all_to_all turns it.
// Tickets count the all_to_alls of a communicator from 1; since all ranks issue in one order, a ticket and its box mean
// the same transfer everywhere. At most one transfer per box is under way.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "comm/communicator.h"
#include "comm/segments.h"
#include "kernels/memory.h"

namespace switchyard {

inline constexpr int kBoxes = 4;

// One all_to_all on this rank.
struct Transfer {
  uint64_t ticket = 0;   // 0: the box was never used
  bool pending = false;  // its rows have not all arrived here
  int box = 0;
  Call call;
  Tensor outbox;  // [rows, columns]
  Tensor inbox;   // [rows, columns], the caller's
  SegmentTable send;
  SegmentTable receive;
  int64_t row_bytes = 0;

  const char* outbox_bytes() const { return static_cast<const char*>(outbox.data()); }
  char* inbox_bytes() const { return static_cast<char*>(inbox.data()); }
  // Bytes to ranks other than `rank`.
  int64_t bytes_to_others(int rank, int size) const;
};

// Bytes of one box of each use, rounded up so that boxes laid one after another stay aligned; never 0.
int64_t box_bytes(OutboxSizes sizes, int box);

class Transfers {
 public:
  // Owns its outboxes, in `memory`. A use whose size is 0 grows on demand.
  Transfers(int rank, int size, OutboxSizes sizes, Memory& memory = host_memory());
  // Box b lies at memory[b], is box_bytes(sizes, b) long and does not grow.
  Transfers(int rank, int size, OutboxSizes sizes, std::array<void*, kBoxes> memory);

  // The transfer that last used the outbox which `use` is given next.
  Transfer& last(OutboxUse use) { return transfers_[static_cast<size_t>(next_box(use))]; }
  // That outbox as a matrix. Its last transfer is over, here and on every peer. Throws InternalError beyond its size.
  Tensor hand_out(OutboxUse use, Dtype dtype, int64_t rows, int64_t columns);
  // Starts the bookkeeping of an all_to_all. Throws InternalError where the operands do not fit one another.
  Transfer& begin(Call call, const Tensor& outbox, std::span<const Segment> send, const Tensor& inbox, std::span<const Segment> receive);
  // The transfer of this event, or null if it is over.
  Transfer* find(Event event);
  // The transfer that last used a box.
  const Transfer& in_box(int box) const { return transfers_[static_cast<size_t>(box)]; }

 private:
  int next_box(OutboxUse use) const { return 2 * static_cast<int>(use) + turn_[static_cast<size_t>(use)]; }

  int rank_;
  int size_;
  OutboxSizes sizes_;
  Memory& owner_;  // of the boxes that are owned
  uint64_t tickets_ = 0;
  std::array<int, 2> turn_{};
  std::array<Buffer, kBoxes> owned_;
  std::array<void*, kBoxes> memory_{};  // null: owned, and not made yet
  std::array<int64_t, kBoxes> capacity_{};
  std::array<bool, kBoxes> handed_out_{};
  std::array<Transfer, kBoxes> transfers_;
};

// The operands of the other collectives. Each throws InternalError with what is wrong. `device`: the communicator's.
void check_operand(const Tensor& tensor, Device device = Device::kHost);
// Where the rows of `rank` begin in `all`; checks everything about an all_gather.
int64_t check_gather(const Tensor& mine, const Tensor& all, std::span<const int64_t> rows, int rank, int size, Device device = Device::kHost);

}  // namespace switchyard
