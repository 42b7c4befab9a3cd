// GradientSink: the Gradients of a training step. It knows which micro-batch is being worked on, sums a lane's
// micro-batches, sends buckets as soon as they are closed, and lets experts add straight into their owner's sum.
//
// Orders, the same for every number of ranks:
//   dense   g_lane = ((g_0 + g_1) + ...) over accumulations, then (g_lane0 + g_lane1) + ... at the owner
//   experts accumulations outside, lanes inside, each lane by itself; then (replica 0 + replica 1) + ... at the owner
#pragma once

#include <map>
#include <vector>

#include "comm/ordered_sum.h"
#include "src/layers/gradients.h"
#include "src/train/parameter_store.h"

namespace switchyard {

class GradientSink : public Gradients {
 public:
  GradientSink(Backend& backend, Communicator& communicator, const Grid& grid, Trace& trace, ParameterStore& store, int accumulate, Dtype exact);

  // The micro-batch whose backward follows. Accumulations outside, this rank's lanes inside.
  void begin(int accumulation, int lane);
  Target target(const Parameter& parameter) override;
  Target expert_target(const Parameter& parameter, int replica) override;
  void done(const Parameter& parameter) override;
  // After the micro-batch's backward: every dense parameter must have been closed.
  void end();
  // After the last micro-batch: sums nothing was added to become zero, and those of replicas are added up. Collective.
  void finish();

  int64_t reserved_bytes() const;

 private:
  struct Dense {
    BucketPlace place;
    int uses = 0;
  };
  // The flat dense run in which this micro-batch's gradients are written / in which its lane's sum grows.
  Tensor written(const Dense& dense, const Parameter& parameter) const;
  Tensor run(const Tensor& flat, const Dense& dense, const Parameter& parameter) const;
  Tensor lane_run() const;

  Backend& backend_;
  Communicator& communicator_;
  const Grid& grid_;
  Trace& trace_;
  ParameterStore& store_;
  OrderedSum sum_;
  int accumulate_;
  Dtype exact_;
  std::map<const Parameter*, Dense> dense_;
  std::map<std::pair<const Parameter*, int>, bool> started_;  // replicas that are here: has a term of this step been added
  std::vector<int> open_;                                     // per bucket: parameters not yet closed in this micro-batch
  std::vector<int> parameters_;                               // per bucket
  Buffer scratch_;                                            // accumulations after the first
  std::vector<Buffer> lanes_;                                 // sums of lanes: one per round when accumulating, else one in all
  int accumulation_ = 0, lane_ = 0;
};

}  // namespace switchyard
