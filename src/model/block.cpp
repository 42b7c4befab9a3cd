#include "src/model/block.h"

namespace switchyard {

Block::Block(const std::string& stack, int index, int moe_layer, const ModelOptions& options, Communicator& communicator, const Grid& grid) {
  const std::string name = stack + ".block." + std::to_string(index);
  const std::string second = name + (moe_layer >= 0 ? ".moe" : ".feed_forward");
  attention_ = AttentionLayer::make(name + ".attention",
                                    {.width = options.width,
                                     .heads = options.heads,
                                     .head_width = options.head_width,
                                     .causal = options.causal(),
                                     .bias = options.bias,
                                     .scale_scores = options.scale_attention,
                                     .deviation = options.attention_deviation},
                                    index);
  if (moe_layer >= 0) {
    const MoeShape shape{.width = options.width,
                         .feed_forward = expert_feed_forward(options.moe, options.feed_forward),
                         .bias = options.bias,
                         .initializer_scale = options.initializer_scale,
                         .block = index,
                         .activation = options.activation,
                         .gated = options.gated};
    moe_.emplace(second, moe_layer, shape, options.moe, communicator, grid);
  } else {
    feed_forward_ = FeedForwardLayer::make(second,
                                           {.width = options.width,
                                            .hidden = options.feed_forward,
                                            .bias = options.bias,
                                            .dropout = options.hidden_dropout,
                                            .initializer_scale = options.initializer_scale,
                                            .activation = options.activation,
                                            .gated = options.gated},
                                           index);
  }
  const auto residual = [&](const std::string& sublayer, Purpose purpose) {
    return Residual{options.norm_place, NormLayer::make(sublayer + ".norm", options.width, options.norm), {options.dropout, purpose, index}};
  };
  attention_residual_ = residual(name + ".attention", Purpose::kAttentionDropout);
  feed_forward_residual_ = residual(second, Purpose::kFeedForwardDropout);
}

Tensor Block::forward(Context& ctx, const Tensor& x, const AttentionPlan& plan, const RoutingBatch& routing, Saved& saved) const {
  const Arena::Mark mark(ctx.scratch);
  const Tensor read = attention_residual_.enter(ctx, x, saved.attention_residual);
  const Tensor attended = attention_.forward(ctx, read, plan, saved.attention);
  const Tensor a = attention_residual_.leave(ctx, x, attended, saved.attention_residual);
  return feed_forward(ctx, a, routing, saved);
}

Tensor Block::feed_forward(Context& ctx, const Tensor& a, const RoutingBatch& routing, Saved& saved) const {
  const Tensor read = feed_forward_residual_.enter(ctx, a, saved.feed_forward_residual);
  const Tensor fed = moe_ ? moe_->forward(ctx, read, routing, saved.moe) : feed_forward_->forward(ctx, read, saved.feed_forward);
  return feed_forward_residual_.leave(ctx, a, fed, saved.feed_forward_residual);
}

void Block::backward(Context& ctx, const Tensor& dx, const Saved& saved, Gradients& grads, Target dbias) const {
  {
    const Arena::Mark mark(ctx.scratch);
    const Tensor dsum = feed_forward_residual_.leave_backward(ctx, dx, saved.feed_forward_residual, grads);
    const Tensor dfed = feed_forward_residual_.dropout.backward(ctx, dsum);
    const Tensor dread = moe_ ? moe_->backward(ctx, dfed, saved.moe, grads) : feed_forward_->backward(ctx, dfed, saved.feed_forward, grads);
    feed_forward_residual_.enter_backward(ctx, dread, dsum, saved.feed_forward_residual, grads, dx);
  }
  const Arena::Mark mark(ctx.scratch);
  const Tensor dsum = attention_residual_.leave_backward(ctx, dx, saved.attention_residual, grads);
  const Tensor dattended = attention_residual_.dropout.backward(ctx, dsum);
  const Tensor dread = attention_.backward(ctx, dattended, saved.attention, grads, dbias);
  attention_residual_.enter_backward(ctx, dread, dsum, saved.attention_residual, grads, dx);
}

Tensor Block::forward_cached(Context& ctx, const Tensor& x, KeyValueCache& cache, const Tensor& bias, const RoutingBatch& routing, Saved& saved) const {
  const Arena::Mark mark(ctx.scratch);
  const Tensor read = attention_residual_.enter(ctx, x, saved.attention_residual);
  const Tensor attended = attention_.forward_cached(ctx, read, cache, bias);
  const Tensor a = attention_residual_.leave(ctx, x, attended, saved.attention_residual);
  return feed_forward(ctx, a, routing, saved);
}

void Block::visit(const ParameterVisitor& visitor) {
  attention_residual_.visit(visitor, attention_);
  if (moe_) {
    feed_forward_residual_.visit(visitor, *moe_);
  } else {
    feed_forward_residual_.visit(visitor, *feed_forward_);
  }
}

}  // namespace switchyard
