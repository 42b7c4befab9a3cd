#include "src/train/runtime.h"

#include <algorithm>

#include "comm/self.h"
#include "src/model/accounting.h"

namespace switchyard {

namespace {

// Arenas that grow block by block waste what is left of every block, so each begins with what a micro-batch needs.
ArenaBytes arenas_of(const Runtime::Options& options, const Grid& grid) {
  const TrainOptions& train = options.train;
  return arena_bytes(options.model, {.ranks = grid.size(),
                                     .lanes = train.lanes,
                                     .accumulate = train.accumulate,
                                     .replicas = grid.replicas(),
                                     .sequences = train.sequences,
                                     .precision = options.precision,
                                     .moments = options.moments});
}

}  // namespace

Runtime::Runtime(const Parts& parts, const Options& options)
    : parts_(parts),
      precision_(options.precision),
      model_(make_model(options.model, parts.communicator, parts.grid)),
      store_(parts.backend, parts.grid, {.precision = options.precision, .moments = options.moments, .training = options.training},
             [this](const ParameterVisitor& visitor) { model_->visit(visitor); }),
      routers_([this](const RouterStateVisitor& visitor) { model_->visit_routers(visitor); }),
      saved_("saved", arenas_of(options, parts.grid).saved, parts.backend.memory()),
      scratch_("scratch", arenas_of(options, parts.grid).scratch, parts.backend.memory()) {}

MicroBatch Runtime::bring(const MicroBatch& batch) {
  Backend& backend = parts_.backend;
  if (backend.memory().device() == Device::kHost) return batch;
  MicroBatch brought = batch;
  for (Tensor* tensor : {&brought.tokens, &brought.targets, &brought.mask}) {
    if (!tensor->exists()) continue;
    const Tensor there = saved_.take(tensor->dtype(), tensor->shape());
    backend.copy_from_host(tensor->data(), Out(there));
    *tensor = there;
  }
  return brought;
}

Context Runtime::context(const MicroBatch& batch, uint64_t seed, int64_t step, bool training) {
  const Key key{seed, static_cast<uint32_t>(step), batch.lane, batch.accumulation, batch.first_token};
  return Context{parts_.backend, saved_, scratch_, precision_, parts_.trace, key, training, routes_};
}

Decoder& Runtime::decoder() {
  auto* decoder = dynamic_cast<Decoder*>(model_.get());
  check(decoder != nullptr, "Runtime::decoder: the model is no decoder");
  return *decoder;
}

Classifier& Runtime::classifier() {
  auto* classifier = dynamic_cast<Classifier*>(model_.get());
  check(classifier != nullptr, "Runtime::classifier: the model is no classifier");
  return *classifier;
}

State Runtime::state(const std::vector<std::string>& moments) {
  State all = store_.state(moments);
  for (StateTensor& tensor : routers_.state(parts_.grid.rank())) all.push_back(std::move(tensor));
  return all;
}

void Runtime::share() {
  store_.take_over();
  routers_.share(parts_.communicator);
  store_.publish(parts_.communicator, parts_.trace);
}

OutboxSizes outbox_sizes(const ModelOptions& model, const TrainOptions& train, Precision precision, int ranks) {
  if (ranks == 1) return {};
  const auto self = make_self_communicator({});
  const Grid alone(0, 1, 1);
  const auto described = make_model(model, *self, alone);
  int64_t dense = 0, largest = 0, experts = 0, block = 0;
  described->visit([&](Parameter& parameter) {
    if (parameter.kind == ParameterKind::kExpert) {
      experts += parameter.shape.elements();
      block = std::max(block, blocks_of(parameter.shape).front().rows * parameter.columns());
      return;
    }
    dense += parameter.shape.elements();
    largest = std::max(largest, parameter.shape.elements());
  });
  const int64_t limit = ParameterStore::Options{}.bucket_bytes, bucket = std::max(limit, largest * size_of(precision.exact));
  constexpr int64_t kCheckpointBuffer = int64_t{4} << 20;  // of SaveOptions
  OutboxSizes sizes;
  sizes.bucket_bytes = std::max(kCheckpointBuffer, std::min(dense * size_of(precision.exact), bucket));
  sizes.bucket_bytes = std::max(sizes.bucket_bytes, Replicas::most_bytes(experts, block, train.expert_replicas, limit, precision.exact));
  const Grid grid(0, ranks, train.lanes, train.expert_replicas);
  sizes.exchange_bytes = model.moe.experts > 1 ? exchange_bytes(model.moe, train.sequences, train.sequence_length, model.width, grid, precision.activation) : 0;
  return sizes;
}

}  // namespace switchyard
