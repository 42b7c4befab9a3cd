// Runtime: a model with memory on this rank. Training, evaluation and generation all work on one.
#pragma once

#include "comm/communicator.h"
#include "comm/grid.h"
#include "src/base/trace.h"
#include "src/layers/context.h"
#include "src/model/decoder.h"
#include "src/train/options.h"
#include "src/train/parameter_store.h"

namespace switchyard {

// The parts of a rank, built by main and passed down.
struct Parts {
  Backend& backend;
  Communicator& communicator;
  const Grid& grid;
  Trace& trace;
};

class Runtime {
 public:
  struct Options {
    ModelOptions model;
    TrainOptions train;  // the shape of a micro-batch
    Precision precision;
    int moments = 0;       // of the optimizer
    bool training = true;  // false: no gradient sums, no moments
  };
  Runtime(const Parts& parts, const Options& options);

  // The context of one micro-batch. Its tensors live until the caller's marks on the arenas close.
  Context context(const MicroBatch& batch, uint64_t seed, int64_t step, bool training);
  // Later contexts record or replay their routes here; null: neither. The book must outlive its use.
  void use_routes(RouteBook* routes) { routes_ = routes; }

  const Parts& parts() const { return parts_; }
  Precision precision() const { return precision_; }
  Decoder& model() { return model_; }
  ParameterStore& store() { return store_; }
  Arena& saved() { return saved_; }
  Arena& scratch() { return scratch_; }
  Decoder::Saved& state() { return state_; }  // of the micro-batch at hand

 private:
  Parts parts_;
  Precision precision_;
  Decoder model_;
  ParameterStore store_;
  Arena saved_, scratch_;
  Decoder::Saved state_;
  RouteBook* routes_ = nullptr;
};

// What the outboxes of a communicator must hold for this model on `ranks` ranks.
OutboxSizes outbox_sizes(const ModelOptions& model, const TrainOptions& train, Precision precision, int ranks);

}  // namespace switchyard
