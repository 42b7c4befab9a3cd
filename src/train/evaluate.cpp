#include "src/train/evaluate.h"

#include <cmath>

namespace switchyard {
namespace {

// Negative log-likelihood and number of hits of one micro-batch.
std::vector<double> evaluate_batch(Runtime& runtime, const MicroBatch& batch, const Counts& counts) {
  Backend& backend = runtime.parts().backend;
  Context ctx = runtime.context(batch, 0, 0, false);
  const Tensor h = runtime.model().forward(ctx, batch, counts, runtime.state());
  const Tensor loss = ctx.temporary(ctx.precision.exact, {batch.rows()});
  const Tensor correct = ctx.temporary(Dtype::kI32, {batch.rows()});
  runtime.model().evaluate(ctx, h, batch, Out(loss), Out(correct));
  const Tensor total = ctx.temporary(Dtype::kF64, {1});
  backend.sum(Out(total), loss);
  std::vector<double> result(2);
  backend.copy_to_host(total, result.data());
  std::vector<int32_t> hits(static_cast<size_t>(batch.rows()));
  backend.copy_to_host(correct, hits.data());
  for (int32_t hit : hits) result[1] += hit;
  return result;
}

}  // namespace

double EvaluationReport::perplexity() const { return std::exp(loss()); }

double EvaluationReport::bits_per_byte(int64_t bytes) const { return bytes == 0 ? 0 : nats / std::log(2.0) / static_cast<double>(bytes); }

EvaluationReport evaluate(Runtime& runtime, EvaluationBatches& batches) {
  const Parts& parts = runtime.parts();
  ScalarBoard board(runtime.model(), parts.grid);
  board.begin();
  EvaluationReport report;
  for (int64_t round = 0; round < batches.rounds(); ++round) {
    const Counts counts = batches.counts(round);
    for (int w = parts.grid.rank(); w < parts.grid.lanes_rounded_up(); w += parts.grid.size()) {
      const Arena::Mark saved(runtime.saved()), scratch(runtime.scratch());
      board.put(evaluate_batch(runtime, batches.at(round, w), counts), runtime.model(), runtime.state());
    }
    report.targets += counts.targets;
  }
  const std::vector<double> sums = board.collect(parts.communicator, report.layers);
  report.nats = sums.empty() ? 0 : sums[0];
  report.correct = sums.empty() ? 0 : static_cast<int64_t>(sums[1]);
  return report;
}

}  // namespace switchyard
