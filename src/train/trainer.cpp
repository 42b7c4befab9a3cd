#include "src/train/trainer.h"

#include <cmath>

namespace switchyard {

Trainer::Trainer(const Parts& parts, const Options& options)
    : options_(options),
      optimizer_(make_optimizer(options.optimizer)),
      runtime_(parts, {.model = options.model, .train = options.train, .precision = options.precision, .moments = optimizer_->moments()}),
      sink_(parts.backend, parts.communicator, parts.grid, parts.trace, runtime_.store(), options.train.accumulate, options.precision.exact),
      board_(runtime_.model(), parts.grid),
      squares_(runtime_.store(), parts.grid) {
  check(parts.grid.replicas() == options.train.expert_replicas, "Trainer: grid and options differ in the replicas of experts");
}

void Trainer::initialise(int threads) {
  runtime_.store().initialise(options_.train.seed, threads);
  resume({});
}

void Trainer::resume(const Progress& progress) {
  progress_ = progress;
  runtime_.share();
}

StepReport Trainer::step(BatchSource& batches) {
  const Parts& parts = runtime_.parts();
  StepReport report;
  report.step = progress_.step;
  report.counts = batches.counts(progress_.step);  // targets, tokens, groups of the whole step
  board_.begin();
  for (int a = 0; a < options_.train.accumulate; ++a) {
    for (int w = parts.grid.rank(); w < parts.grid.lanes_rounded_up(); w += parts.grid.size()) {
      micro_batch(read(batches, a, w), report.counts);
    }
  }
  sink_.finish();  // owners have added all lanes in order
  const std::vector<double> sums = board_.collect(parts.communicator, report.layers);
  report.loss = {sums[0], sums[1], sums[2]};
  report.gradient_norm = gradient_norm();
  report.learning_rate = rate(options_.schedule, progress_.step);
  // The same bits on every rank, so every rank decides alike.
  report.applied = std::isfinite(report.loss.total()) && std::isfinite(report.gradient_norm);
  if (digests_ != nullptr) digests_->write_state(report.step, runtime_.store().gradient_state());
  if (report.applied) update(report);
  ++progress_.step;
  progress_.skips += report.applied ? 0 : 1;
  progress_.tokens += report.counts.tokens;
  if (digests_ != nullptr) write_digests(report);
  return report;
}

MicroBatch Trainer::read(BatchSource& batches, int accumulation, int lane) {
  const Span span(runtime_.parts().trace, SpanKind::kInput, "batch");
  return batches.at(progress_.step, accumulation, lane);
}

void Trainer::micro_batch(const MicroBatch& source, const Counts& counts) {
  const Arena::Mark saved(runtime_.saved()), scratch(runtime_.scratch());
  const MicroBatch batch = runtime_.bring(source);
  const Model& model = runtime_.model();
  Model::Saved& state = runtime_.state();
  Context ctx = runtime_.context(batch, options_.train.seed, progress_.step, true);
  sink_.begin(static_cast<int>(batch.accumulation), static_cast<int>(batch.lane));
  const Tensor h = model.forward(ctx, batch, counts, state);                   // [T, D]; T = 0 on an empty lane
  const Tensor dh = model.loss_backward(ctx, h, batch, counts, state, sink_);  // the head, there and back
  const MicroBatchLoss loss = model.losses(ctx, state);
  model.backward(ctx, dh, state, sink_);
  board_.put({loss.cross_entropy, loss.balance, loss.router_z}, model, state);  // now that backward's payloads are measured, too
  sink_.end();
}

double Trainer::gradient_norm() {
  const Parts& parts = runtime_.parts();
  Span span(parts.trace, SpanKind::kControl, "gradient_norm");
  const std::vector<OwnedBlock>& owned = runtime_.store().owned();
  const int64_t count = static_cast<int64_t>(owned.size());
  const Arena::Mark mark(runtime_.scratch());
  const Tensor squares = runtime_.scratch().take(Dtype::kF64, {count});
  for (int64_t i = 0; i < count; ++i) parts.backend.sum_of_squares(Out(squares.slice_rows(i, 1)), owned[static_cast<size_t>(i)].gradient);
  std::vector<double> host(static_cast<size_t>(count));
  parts.backend.copy_to_host(squares, host.data());
  return std::sqrt(squares_.fold(parts.communicator, host));
}

void Trainer::update(StepReport& report) {
  const Parts& parts = runtime_.parts();
  {
    Span span(parts.trace, SpanKind::kCompute, "update");
    report.clip = clip_scale(options_.optimizer.clip_norm, report.gradient_norm);
    const Update now{report.learning_rate, report.clip, progress_.step - progress_.skips + 1};
    for (const OwnedBlock& block : runtime_.store().owned()) optimizer_->apply(parts.backend, block, now, {});
  }
  report.fallbacks = runtime_.routers().advance(report.layers);
  runtime_.store().publish(parts.communicator, parts.trace);  // owners' new values to all ranks
}

State Trainer::state() {
  std::vector<std::string> moments;
  for (int i = 0; i < optimizer_->moments(); ++i) moments.emplace_back(optimizer_->moment_name(i));
  return runtime_.state(moments);
}

void Trainer::write_digests(const StepReport& report) {
  digests_->write_scalars(report.step, report.loss.total(), report.gradient_norm, progress_.tokens);
  digests_->write_state(report.step, state());
}

}  // namespace switchyard
