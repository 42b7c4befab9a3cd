#include "src/train/evaluate.h"

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

// Counts which class each text of a classifier was taken for; nothing for a decoder.
class ClassBoard {
 public:
  explicit ClassBoard(const ModelOptions& model) : classes_(model.kind == ModelKind::kClassifier ? static_cast<size_t>(model.classifier.classes) : 0) {
    counts_.assign(3 * classes_ + (has_confusion() ? classes_ * classes_ : 0), 0);
  }

  void put(Context& ctx, Runtime& runtime, const Tensor& h, const MicroBatch& batch) {
    if (classes_ == 0) return;
    const Tensor logits = runtime.classifier().logits(ctx, h, batch);
    std::vector<double> rows(static_cast<size_t>(logits.elements()));
    ctx.backend.copy_to_host(logits, rows.data());
    std::vector<int32_t> targets(static_cast<size_t>(batch.sequences));
    ctx.backend.copy_to_host(batch.targets, targets.data());
    for (size_t b = 0; b < targets.size(); ++b) {
      const auto row = rows.begin() + static_cast<int64_t>(b * classes_);
      const auto guess = static_cast<size_t>(std::max_element(row, row + static_cast<int64_t>(classes_)) - row);  // the lowest on a tie
      if (targets[b] >= 0) count(static_cast<size_t>(targets[b]), guess);
    }
  }

  void collect(Communicator& communicator, EvaluationReport& report) {
    if (classes_ == 0) return;
    communicator.reduce({"classes", -1}, counts_, Reduction::kSum);
    for (size_t c = 0; c < classes_; ++c) report.classes.push_back({counts_[3 * c], counts_[3 * c + 1], counts_[3 * c + 2]});
    report.confusion.assign(counts_.begin() + static_cast<int64_t>(3 * classes_), counts_.end());
  }

 private:
  bool has_confusion() const { return classes_ <= static_cast<size_t>(kMostConfusionClasses); }
  void count(size_t target, size_t guess) {
    ++counts_[3 * target];
    ++counts_[3 * guess + 1];
    if (target == guess) ++counts_[3 * target + 2];
    if (has_confusion()) ++counts_[3 * classes_ + target * classes_ + guess];
  }

  size_t classes_;
  std::vector<int64_t> counts_;  // [classes, 3] examples, taken, hits; then [classes, classes]
};

// Negative log-likelihood and number of hits of one micro-batch.
std::vector<double> evaluate_batch(Runtime& runtime, const MicroBatch& batch, const Counts& counts, ClassBoard& classes) {
  Backend& backend = runtime.parts().backend;
  Context ctx = runtime.context(batch, 0, 0, false);
  const Tensor h = runtime.model().forward(ctx, batch, counts, runtime.state());
  const int64_t targets = batch.targets.rows();
  const Tensor loss = ctx.temporary(ctx.precision.exact, {targets});
  const Tensor correct = ctx.temporary(Dtype::kI32, {targets});
  runtime.model().evaluate(ctx, h, batch, Out(loss), Out(correct));
  const Tensor total = ctx.temporary(Dtype::kF64, {1});
  backend.sum(Out(total), loss);
  std::vector<double> result(2);
  backend.copy_to_host(total, result.data());
  std::vector<int32_t> hits(static_cast<size_t>(targets));
  backend.copy_to_host(correct, hits.data());
  for (int32_t hit : hits) result[1] += hit;
  classes.put(ctx, runtime, h, batch);
  return result;
}

}  // namespace

double EvaluationReport::perplexity() const { return std::exp(loss()); }

double EvaluationReport::bits_per_byte(int64_t bytes) const { return bytes == 0 ? 0 : nats / std::log(2.0) / static_cast<double>(bytes); }

double EvaluationReport::macro_f1() const {
  double sum = 0;
  int64_t told = 0;
  for (const ClassScore& score : classes) {
    sum += score.f1();
    told += score.examples + score.taken > 0 ? 1 : 0;
  }
  return told == 0 ? 0 : sum / static_cast<double>(told);
}

EvaluationReport evaluate(Runtime& runtime, EvaluationSource& batches) {
  const Parts& parts = runtime.parts();
  ScalarBoard board(runtime.model(), parts.grid);
  ClassBoard classes(runtime.model().options());
  board.begin();
  EvaluationReport report;
  for (int64_t round = 0; round < batches.rounds(); ++round) {
    const Counts counts = batches.counts(round);
    for (int w = parts.grid.rank(); w < parts.grid.lanes_rounded_up(); w += parts.grid.size()) {
      const Arena::Mark saved(runtime.saved()), scratch(runtime.scratch());
      board.put(evaluate_batch(runtime, runtime.bring(batches.at(round, w)), counts, classes), runtime.model(), runtime.state());
    }
    report.targets += counts.targets;
  }
  const std::vector<double> sums = board.collect(parts.communicator, report.layers);
  report.nats = sums.empty() ? 0 : sums[0];
  report.correct = sums.empty() ? 0 : static_cast<int64_t>(sums[1]);
  classes.collect(parts.communicator, report);
  return report;
}

}  // namespace switchyard
