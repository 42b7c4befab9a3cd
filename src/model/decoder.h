// Decoder: a decoder-only language model. Its head is the stack's token table once more (tied).
#pragma once

#include "src/layers/loss.h"
#include "src/model/model.h"

namespace switchyard {

class Decoder : public Model {
 public:
  using Cache = Stack::Cache;

  Decoder(const ModelOptions& options, Communicator& communicator, const Grid& grid);

  // batch.targets is [T]. The first use of the token table; backward has the last.
  Tensor loss_backward(Context& ctx, const Tensor& h, const MicroBatch& batch, const Counts& counts, Saved& saved, Gradients& grads) const override;
  void evaluate(Context& ctx, const Tensor& h, const MicroBatch& batch, Out loss, Out correct) const override;

  // Generation: see Stack.
  Cache make_cache(Context& ctx, int64_t batch, int64_t capacity) const { return stack().make_cache(ctx, batch, capacity); }
  Tensor forward_cached(Context& ctx, const Tensor& tokens, Cache& cache) const { return stack().forward_cached(ctx, tokens, cache); }
  // h [n, D] activation -> logits [n, N] exact, in ctx.scratch.
  Tensor logits(Context& ctx, const Tensor& h) const { return loss_.logits(ctx, h, stack().token_table()); }

 private:
  void visit_head(const ParameterVisitor&) override {}

  LossLayer loss_;
};

}  // namespace switchyard
