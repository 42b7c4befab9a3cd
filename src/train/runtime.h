// Runtime: a model with memory on this rank. Training, evaluation, generation and prediction all work on one.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "src/base/trace.h"
#include "src/layers/context.h"
#include "src/model/classifier.h"
#include "src/model/decoder.h"
#include "src/train/options.h"
#include "src/train/parameter_store.h"
#include "src/train/router_states.h"

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

  // The batch where the backend computes: itself, or a copy in the arena of what is saved.
  MicroBatch bring(const MicroBatch& batch);
  // The context of one micro-batch. Its tensors live until the caller's marks on the arenas close.
  Context context(const MicroBatch& batch, uint64_t seed, int64_t step, bool training);
  // Later contexts record or replay their routes here; null: neither. The book must outlive its use.
  void use_routes(RouteBook* routes) { routes_ = routes; }

  const Parts& parts() const { return parts_; }
  Precision precision() const { return precision_; }
  Model& model() { return *model_; }
  // For what only one kind of model can do. Throw InternalError if the model is of the other kind.
  Decoder& decoder();
  Classifier& classifier();
  ParameterStore& store() { return store_; }
  RouterStates& routers() { return routers_; }
  // What a checkpoint holds: weights, the moments of these names, and what routers remember.
  State state(const std::vector<std::string>& moments);
  // Brings what has been initialised or loaded to every rank, in the forms that are read. Collective.
  void share();
  Arena& saved() { return saved_; }
  Arena& scratch() { return scratch_; }
  Model::Saved& state() { return state_; }  // of the micro-batch at hand

 private:
  Parts parts_;
  Precision precision_;
  std::unique_ptr<Model> model_;
  ParameterStore store_;
  RouterStates routers_;
  Arena saved_, scratch_;
  Model::Saved state_;
  RouteBook* routes_ = nullptr;
};

// What the outboxes of a communicator must hold for this model on `ranks` ranks.
OutboxSizes outbox_sizes(const ModelOptions& model, const TrainOptions& train, Precision precision, int ranks);

}  // namespace switchyard
