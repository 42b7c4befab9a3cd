// ParameterStore: who owns which block of which parameter, and the memory behind it.
//
// Dense parameters are laid out in buckets, in the order in which backward closes them; each bucket is divided into one
// range of whole blocks per rank. An expert belongs to the rank that hosts it; of an expert with several replicas, each
// block to the host of one of them. The owner of a block, and nobody else, holds its f32 master, its moments and its
// gradient sum; publish() brings new values, in the forms that layers read, to every rank that reads them.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "comm/ordered_sum.h"
#include "kernels/backend.h"
#include "src/base/trace.h"
#include "src/checkpoint/state.h"
#include "src/layers/blocks.h"
#include "src/layers/context.h"
#include "src/layers/parameter.h"
#include "src/optim/optimizer.h"
#include "src/train/owned_run.h"
#include "src/train/replicas.h"

namespace switchyard {

// One block anywhere, in the one global order: parameters in visiting order, rows ascending.
struct PlacedBlock {
  const Parameter* parameter = nullptr;
  BlockRange range;
  int owner = 0;
  int64_t owned_index = -1;  // at the owner: its place in owned()
};

// Where a dense parameter's gradient lies in the flat run of its bucket.
struct BucketPlace {
  int bucket = 0;
  int64_t offset = 0;  // elements from the bucket's start
};

class ParameterStore {
 public:
  using Visit = std::function<void(const ParameterVisitor&)>;

  struct Options {
    Precision precision;
    int moments = 0;  // per element, kept by the optimizer; 0 also means: no gradient sums (evaluation)
    bool training = true;
    int64_t bucket_bytes = int64_t{32} << 20;
  };

  // Walks the model once, allocates, and attaches every form that this rank reads to its parameters.
  ParameterStore(Backend& backend, const Grid& grid, Options options, const Visit& visit);

  // Fills the masters from the parameters' initialisers, keyed by (seed, global name, row, column).
  void initialise(uint64_t seed, int threads);
  // What was written into the tensors of state() becomes the masters and moments.
  void take_over();
  // Rounds the masters once and brings them to every rank in the forms that are read. Collective.
  void publish(Communicator& communicator, Trace& trace);

  const std::vector<PlacedBlock>& blocks() const { return blocks_; }
  std::vector<OwnedBlock>& owned() { return owned_; }
  // Number of blocks that each rank owns.
  const std::vector<int64_t>& owned_per_rank() const { return owned_per_rank_; }

  const std::vector<BucketLayout>& buckets() const { return buckets_; }
  int64_t bucket_start(int bucket) const { return bucket_start_[static_cast<size_t>(bucket)]; }  // in the flat dense run
  int64_t dense_elements() const { return bucket_start_.back(); }
  const std::map<const Parameter*, BucketPlace>& places() const { return places_; }
  // This rank's sums of a bucket's own range; and the sum of one replica, hosted here, of an expert's parameter, in its shape.
  Tensor bucket_sums(int bucket) const;
  Tensor expert_sum(const Parameter& parameter, int replica) const;
  // Whether this rank hosts a replica of an expert's parameter.
  bool hosts(const Parameter& parameter, int replica) const;
  // Adds the sums of replicas up, in their order, at the owners. Nothing is done with one replica, for there the sum is the
  // owner's. Collective.
  void add_replicas(Communicator& communicator, Trace& trace) { replicas_.add_up(communicator, trace); }

  // Everything that a checkpoint holds, as it is now: "<name>", and "optimizer.<moment>.<name>" for each name in `moments`.
  std::vector<StateTensor> state(const std::vector<std::string>& moments);
  // The same for the gradient sums, as "gradient.<name>".
  std::vector<StateTensor> gradient_state();

  int64_t elements() const { return total_elements_; }
  int64_t owned_elements() const { return owned_elements_; }

  // Bytes of one bucket's outbox at most, over all ranks.
  int64_t bucket_outbox_bytes() const;

 private:
  struct Placement {  // a parameter, in visiting order
    Parameter* parameter = nullptr;
    int bucket = -1;
    int64_t offset = 0;         // dense: in its bucket
    bool hosted = false;        // experts: there is a replica here
    int64_t state_offset = -1;  // experts: where this rank's first block lies in the owned run
    size_t group = 0;           // dense, several ranks: where its published values lie
    int64_t group_offset = 0;
  };
  // The part of a bucket that is published in one dtype, as one flat run of whole blocks.
  struct Group {
    int bucket = 0;
    Dtype dtype = Dtype::kF32;
    std::vector<int64_t> elements_per_rank;
    struct Own {
      size_t owned_index;
      int64_t offset;  // in the run
    };
    std::vector<Own> own;  // this rank's blocks
    Buffer values;

    int64_t elements() const {
      int64_t total = 0;
      for (int64_t part : elements_per_rank) total += part;
      return total;
    }
  };

  void collect(const Visit& visit);
  void cut_buckets();
  void place_experts();
  void place_blocks();
  int host_of(const Parameter& parameter, int replica) const;
  int expert_owner(const Parameter& parameter, int64_t elements);
  void allocate();
  void own_blocks();
  void attach_forms(Placement& placement);
  void make_groups();
  void gather(const Group& group, Communicator& communicator);
  Tensor master_of(const Placement& placement) const;
  Tensor values_of(const Placement& placement) const;
  bool replicated(const Parameter& parameter) const { return parameter.kind == ParameterKind::kExpert && grid_.replicas() > 1; }
  // Whether no rank may have all blocks of it, so that new values come by messages.
  bool travels(const Parameter& parameter) const { return grid_.size() > 1 && (parameter.kind == ParameterKind::kDense || grid_.replicas() > 1); }
  Dtype published(const Parameter& parameter) const;
  std::vector<StateTensor> state_of(const std::string& prefix, OwnedRun& run);

  Backend& backend_;
  const Grid& grid_;
  Options options_;
  std::vector<Placement> placements_;
  std::map<int, int> experts_of_layer_;
  std::vector<int64_t> expert_elements_;  // [P] of experts' blocks that each rank owns
  std::vector<BucketLayout> buckets_;
  std::vector<int64_t> bucket_start_;        // in the flat dense run; one more than buckets
  std::vector<int64_t> bucket_owned_start_;  // of this rank's range, in the owned run
  std::map<const Parameter*, BucketPlace> places_;
  std::map<const Parameter*, size_t> placement_of_;
  std::vector<PlacedBlock> blocks_;
  std::vector<OwnedBlock> owned_;
  std::vector<int64_t> owned_per_rank_;
  int64_t total_elements_ = 0, owned_elements_ = 0;

  OwnedRun masters_, sums_;
  std::array<OwnedRun, 2> moments_;
  std::vector<int64_t> owned_offsets_;  // of each owned block, in those runs
  std::vector<Group> groups_;
  Replicas replicas_;
  Buffer publish_staging_;
  std::vector<Buffer> forms_;
};

}  // namespace switchyard
