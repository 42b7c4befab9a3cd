// ordered_sum: the only floating-point sum across ranks.
//
// The gradients that every lane has are divided into buckets, flat runs of elements; each bucket into one range per
// rank, its owner. A lane's bucket is sent once, each range to its owner, and owners add the lanes in lane order:
// ((g0 + g1) + g2) + ..., whatever the number of ranks is. Two buckets are in flight at a time.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "kernels/backend.h"
#include "src/base/trace.h"

namespace switchyard {

struct BucketLayout {
  std::vector<int64_t> begin;  // [P + 1] first element of each rank's range; the last is the number of elements

  int64_t elements() const { return begin.back(); }
  int64_t range_elements(int rank) const { return begin[static_cast<size_t>(rank) + 1] - begin[static_cast<size_t>(rank)]; }
};

// Cuts a bucket of blocks (their elements, in order) into one run of whole blocks per rank, about equal in elements.
BucketLayout divide_bucket(std::span<const int64_t> block_elements, int ranks);

class OrderedSum {
 public:
  // `exact` is the dtype of gradients and sums. All ranks pass the same buckets.
  OrderedSum(Communicator& communicator, Backend& backend, const Grid& grid, Trace& trace, Dtype exact, std::vector<BucketLayout> buckets);

  // Sends this rank's `lane`'s gradient [elements] of a bucket, and adds what arrives into `sums` [own range] once it is
  // there. An empty lane sends nothing and adds nothing. Lane 0 is the first term: it overwrites. Both tensors must
  // stay as they are until finish(). `gradient` may begin at `sums` where one rank owns everything.
  void send(int bucket, int lane, Tensor gradient, Tensor sums);
  // Completes all that is in flight.
  void finish();

  const std::vector<BucketLayout>& buckets() const { return buckets_; }
  int64_t reserved_bytes() const;

 private:
  struct Pending {
    bool active = false;
    int bucket = 0;
    int first_lane = 0;  // of the round
    Tensor gradient, sums, inbox;
    Event event;
  };
  void post(Pending& pending, bool empty_lane);
  void complete(Pending& pending);
  Tensor piece(const Pending& pending, int rank) const;

  Communicator& communicator_;
  Backend& backend_;
  const Grid& grid_;
  Trace& trace_;
  Dtype exact_;
  std::vector<BucketLayout> buckets_;
  std::array<Buffer, 2> inboxes_;
  std::array<Pending, 2> pending_;
  int next_ = 0;
  std::vector<Segment> send_segments_, receive_segments_;
};

}  // namespace switchyard
