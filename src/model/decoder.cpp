#include "src/model/decoder.h"

#include <cmath>

namespace switchyard {

Decoder::Decoder(const ModelOptions& options, Communicator& communicator, const Grid& grid) : Model("decoder", options, true, communicator, grid) {
  loss_ = {.head_scale = options.scale_tied_head ? 1 / std::sqrt(static_cast<double>(options.width)) : 1, .z = options.z_loss};
}

Tensor Decoder::loss_backward(Context& ctx, const Tensor& h, const MicroBatch& batch, const Counts& counts, Saved& saved, Gradients& grads) const {
  LossLayer::Saved loss;
  const Tensor dh = loss_.backward(ctx, h, batch.targets, stack().token_table(), target_weight(counts), loss, grads);
  saved.loss = loss.loss;
  return dh;
}

void Decoder::evaluate(Context& ctx, const Tensor& h, const MicroBatch& batch, Out loss, Out correct) const {
  loss_.evaluate(ctx, h, batch.targets, stack().token_table(), loss, correct);
}

}  // namespace switchyard
