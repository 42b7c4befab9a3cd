#include "src/train/gradient_sink.h"

namespace switchyard {

GradientSink::GradientSink(Backend& backend, Communicator& communicator, const Grid& grid, Trace& trace, ParameterStore& store, int accumulate, Dtype exact)
    : backend_(backend),
      communicator_(communicator),
      grid_(grid),
      trace_(trace),
      store_(store),
      sum_(communicator, backend, grid, trace, exact, store.buckets()),
      accumulate_(accumulate),
      exact_(exact) {
  parameters_.assign(store.buckets().size(), 0);
  for (const auto& [parameter, place] : store.places()) {
    dense_[parameter] = {place, 0};
    ++parameters_[static_cast<size_t>(place.bucket)];
  }
  open_ = parameters_;
  for (const PlacedBlock& block : store.blocks()) {
    if (block.parameter->kind != ParameterKind::kExpert) continue;
    for (int replica = 0; replica < grid.replicas(); ++replica) {
      if (store.hosts(*block.parameter, replica)) started_[{block.parameter, replica}] = false;
    }
  }
  const Shape dense{store.dense_elements()};
  if (accumulate > 1) scratch_ = make_buffer(exact, dense, backend.memory());
  lanes_.resize(static_cast<size_t>(accumulate > 1 ? grid.rounds() : 1));
  // One rank alone owns every sum, so lane 0 writes its terms where they belong.
  const bool in_place = grid.size() == 1;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (!in_place || (accumulate > 1 ? i > 0 : grid.lanes() > 1)) lanes_[i] = make_buffer(exact, dense, backend.memory());
  }
}

Tensor GradientSink::lane_run() const {
  const Shape shape{store_.dense_elements()};
  if (grid_.size() == 1 && lane_ == 0) {
    // Buckets follow one another in the owned run.
    return Tensor(store_.bucket_sums(0).data(), exact_, shape, backend_.memory().device());
  }
  return lanes_[accumulate_ > 1 ? static_cast<size_t>(lane_ / grid_.size()) : 0].tensor(exact_, shape);
}

Tensor GradientSink::run(const Tensor& flat, const Dense& dense, const Parameter& parameter) const {
  const int64_t first = store_.bucket_start(dense.place.bucket) + dense.place.offset;
  return flat.slice_rows(first, parameter.shape.elements()).reshape(parameter.shape);
}

Tensor GradientSink::written(const Dense& dense, const Parameter& parameter) const {
  return run(accumulation_ == 0 ? lane_run() : scratch_.tensor(exact_, {store_.dense_elements()}), dense, parameter);
}

void GradientSink::begin(int accumulation, int lane) {
  accumulation_ = accumulation;
  lane_ = lane;
}

Target GradientSink::target(const Parameter& parameter) {
  const Dense& dense = dense_.at(&parameter);
  return Target{written(dense, parameter), dense.uses > 0};
}

Target GradientSink::expert_target(const Parameter& parameter, int replica) {
  bool& started = started_.at({&parameter, replica});
  const Target result{store_.expert_sum(parameter, replica), started};
  started = true;
  return result;
}

void GradientSink::done(const Parameter& parameter) {
  Dense& dense = dense_.at(&parameter);
  if (++dense.uses < parameter.uses) return;
  dense.uses = 0;
  if (accumulation_ > 0) backend_.convert(Accumulate(run(lane_run(), dense, parameter)), written(dense, parameter));
  const int bucket = dense.place.bucket;
  if (--open_[static_cast<size_t>(bucket)] > 0) return;
  open_[static_cast<size_t>(bucket)] = parameters_[static_cast<size_t>(bucket)];
  if (accumulation_ + 1 < accumulate_) return;
  const Tensor gradient = lane_run().slice_rows(store_.bucket_start(bucket), store_.buckets()[static_cast<size_t>(bucket)].elements());
  sum_.send(bucket, lane_, gradient, store_.bucket_sums(bucket));
}

void GradientSink::end() {
  check(open_ == parameters_, "GradientSink: backward ended with a parameter that was not closed; compare Parameter::uses with its done() calls");
  if (accumulation_ + 1 == accumulate_) sum_.finish();
}

void GradientSink::finish() {
  for (auto& [copy, started] : started_) {
    if (!started) backend_.zero(Out(store_.expert_sum(*copy.first, copy.second)));
    started = false;
  }
  store_.add_replicas(communicator_, trace_);
}

int64_t GradientSink::reserved_bytes() const {
  int64_t total = scratch_.bytes() + sum_.reserved_bytes();
  for (const Buffer& lane : lanes_) total += lane.bytes();
  return total;
}

}  // namespace switchyard
