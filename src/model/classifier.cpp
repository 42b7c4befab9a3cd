#include "src/model/classifier.h"

namespace switchyard {

Classifier::Classifier(const ModelOptions& options, Communicator& communicator, const Grid& grid)
    : Model("classifier", options, false, communicator, grid),
      pool_{.padding = options.classifier.pool_padding},
      head_(ClassifierHead::make("classifier.head", options.width, options.classifier)),
      z_loss_(options.z_loss) {}

Tensor Classifier::loss_backward(Context& ctx, const Tensor& h, const MicroBatch& batch, const Counts& counts, Saved& saved, Gradients& grads) const {
  PoolLayer::Saved pooled;
  ClassifierHead::Saved inside;
  saved.loss = ctx.keep(Dtype::kF64, {1});
  const Tensor mean = pool_.forward(ctx, h, batch.sequence_length, batch.mask, pooled);
  const Tensor logits = head_.forward(ctx, mean, inside);
  const Tensor loss = ctx.temporary(ctx.precision.exact, {batch.sequences});
  const Tensor correct = ctx.temporary(Dtype::kI32, {batch.sequences});
  const CrossEntropy options{.scale = target_weight(counts), .z = z_loss_, .gradient = true};
  ctx.backend.cross_entropy(logits, Out(loss), Out(correct), batch.targets, options);  // logits become their own gradient
  ctx.backend.sum(Out(saved.loss), loss);
  const Tensor dmean = head_.backward(ctx, logits, inside, grads);
  return pool_.backward(ctx, dmean, pooled);
}

Tensor Classifier::head_forward(Context& ctx, const Tensor& h, const MicroBatch& batch) const {
  PoolLayer::Saved pooled;
  ClassifierHead::Saved inside;
  const Tensor mean = pool_.forward(ctx, h, batch.sequence_length, batch.mask, pooled);
  return head_.forward(ctx, mean, inside);
}

Tensor Classifier::logits(Context& ctx, const Tensor& h, const MicroBatch& batch) const {
  check(!ctx.training, "Classifier::logits: training");
  const Tensor wide = ctx.temporary(Dtype::kF64, {batch.sequences, options().classifier.classes});
  const Arena::Mark mark(ctx.scratch);
  ctx.backend.convert(Out(wide), head_forward(ctx, h, batch));
  return wide;
}

void Classifier::evaluate(Context& ctx, const Tensor& h, const MicroBatch& batch, Out loss, Out correct) const {
  const Arena::Mark mark(ctx.scratch);
  const CrossEntropy options{.scale = 1, .z = 0, .gradient = false};
  ctx.backend.cross_entropy(head_forward(ctx, h, batch), loss, correct, batch.targets, options);
}

}  // namespace switchyard
