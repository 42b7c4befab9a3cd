// Replicas: what experts need beyond an owner where each has several copies (comm/grid.h).
//
// Every copy sums the gradients of the lanes that feed it. After the last micro-batch the sums of a block travel from the
// hosts of its copies to the owner of the block, one of them, which adds them in the order of replicas:
// ((s0 + s1) + s2) + ..., whatever the number of ranks is. New values go the same ways back. Both transfers come in
// buckets of blocks that every rank cuts alike, each one all_to_all, two in flight.
//
// With one replica there is nothing of this. On one rank nothing travels, and the sum of replica 0 is the owner's.
#pragma once

#include <array>
#include <map>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "kernels/backend.h"
#include "src/base/trace.h"
#include "src/layers/blocks.h"
#include "src/layers/context.h"
#include "src/layers/parameter.h"
#include "src/optim/optimizer.h"

namespace switchyard {

class Replicas {
 public:
  struct Options {
    Precision precision;
    bool training = true;      // false: there are no sums
    int64_t bucket_bytes = 0;  // that leave or reach one rank in one transfer, but for a block that is larger
  };
  Replicas(Backend& backend, const Grid& grid, Options options) : backend_(backend), grid_(grid), options_(options) {}

  // Every parameter of an expert, in visiting order: the rank that hosts each replica [R], and the dtype of its new values.
  void place(const Parameter& parameter, std::vector<int> hosts, Dtype published);
  // After the last parameter.
  void allocate();
  // Every block of every expert, in the global order; `own` at its owner, which hosts a copy, else null.
  void add_block(const Parameter& parameter, BlockRange range, int owner, const OwnedBlock* own);
  // After the last block.
  void cut_buckets();

  // A copy's gradient sum, in the parameter's shape, on the rank that hosts it; not of replica 0 on one rank.
  Tensor sum(const Parameter& parameter, int replica) const;
  // New values in the parameter's shape, on several ranks, where a copy is.
  Tensor values(const Parameter& parameter) const;

  // From the sums of copies to the owners' gradients. Collective.
  void add_up(Communicator& communicator, Trace& trace);
  // From the owners' masters to values. Collective. Answers with the bytes that left this rank.
  int64_t publish(Communicator& communicator);

  // Bytes that one transfer may have leaving or reaching a rank: experts have `elements` elements in all, a block at most
  // `block_elements`.
  static int64_t most_bytes(int64_t elements, int64_t block_elements, int replicas, int64_t bucket_bytes, Dtype exact);

 private:
  struct Copies {               // of one parameter
    std::vector<int> hosts;     // [R]
    std::vector<int> ranks;     // the same, each rank once
    std::vector<int64_t> sums;  // [R] where each sum begins in the run of sums; -1: not here, or the owner's
    int64_t values = -1;        // where the values begin in the run of their dtype; -1: no copy here, or one rank
    Dtype published = Dtype::kF32;
  };
  struct Block {
    const Copies* copies = nullptr;
    int owner = 0;
    int layer = 0, number = 0;        // of the layer; of the block among its expert's
    int64_t first = 0, elements = 0;  // in its parameter
    Tensor master, gradient;          // [elements, 1], at the owner
  };
  struct Bucket {
    std::vector<Block> blocks;  // that this rank owns or hosts
    Dtype published = Dtype::kF32;
    int64_t sums_leave = 0, sums_arrive = 0, values_leave = 0;  // elements, at this rank
  };

  bool here(int rank) const { return rank == grid_.rank(); }
  size_t run_of(Dtype published) const { return published == options_.precision.exact ? 1 : 0; }
  Tensor values_run(Dtype published) const;  // [elements, 1]
  Tensor sum_of(const Block& block, int replica) const;
  void close_bucket(std::vector<Block>& blocks);
  void send_sums(Communicator& communicator, size_t number);
  void add_terms(Communicator& communicator, size_t number);
  void send_values(Communicator& communicator, size_t number);

  Backend& backend_;
  const Grid& grid_;
  Options options_;
  std::map<const Parameter*, Copies> copies_;
  std::map<std::pair<int, int>, int> blocks_of_expert_;  // by layer and expert
  std::vector<Block> blocks_;                            // until the buckets are cut
  std::vector<Bucket> buckets_;
  int64_t sum_elements_ = 0;
  std::array<int64_t, 2> value_elements_{};

  Buffer sums_;
  std::array<Buffer, 2> values_;   // of the weights' dtype, unless it is the exact one, and of the exact one
  std::array<Buffer, 2> inboxes_;  // of buckets by turns
  std::array<Event, 2> events_;
  std::vector<Segment> send_, receive_;
};

}  // namespace switchyard
