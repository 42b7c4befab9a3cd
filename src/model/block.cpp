#include "src/model/block.h"

namespace switchyard {

Block::Block(const std::string& stack, int index, int moe_layer, const ModelOptions& options, Communicator& communicator, const Grid& grid) {
  const std::string name = stack + ".block." + std::to_string(index);
  const std::string second = name + (moe_layer >= 0 ? ".moe" : ".feed_forward");
  attention_norm_ = NormLayer::make(name + ".attention.norm", options.width, options.norm);
  attention_ = AttentionLayer::make(name + ".attention",
                                    {.width = options.width,
                                     .heads = options.heads,
                                     .head_width = options.head_width,
                                     .causal = true,
                                     .bias = options.bias,
                                     .scale_scores = options.scale_attention},
                                    index);
  feed_forward_norm_ = NormLayer::make(second + ".norm", options.width, options.norm);
  if (moe_layer >= 0) {
    const MoeShape shape{.width = options.width, .feed_forward = options.feed_forward, .bias = options.bias, .initializer_scale = options.initializer_scale};
    moe_.emplace(second, moe_layer, shape, options.moe, communicator, grid);
  } else {
    feed_forward_ = FeedForwardLayer::make(second,
                                           {.width = options.width,
                                            .hidden = options.feed_forward,
                                            .bias = options.bias,
                                            .dropout = options.hidden_dropout,
                                            .initializer_scale = options.initializer_scale},
                                           index);
  }
  attention_dropout_ = {.rate = options.dropout, .purpose = Purpose::kAttentionDropout, .layer = index};
  feed_forward_dropout_ = {.rate = options.dropout, .purpose = Purpose::kFeedForwardDropout, .layer = index};
}

Tensor Block::forward(Context& ctx, const Tensor& x, const AttentionPlan& plan, const RoutingBatch& routing, Saved& saved) const {
  const Arena::Mark mark(ctx.scratch);
  const Tensor normed = attention_norm_.forward(ctx, x, saved.attention_norm);
  const Tensor attended = attention_.forward(ctx, normed, plan, saved.attention);
  const Tensor a = attention_dropout_.add(ctx, x, attended);
  return feed_forward(ctx, a, routing, saved);
}

Tensor Block::feed_forward(Context& ctx, const Tensor& a, const RoutingBatch& routing, Saved& saved) const {
  const Tensor normed = feed_forward_norm_.forward(ctx, a, saved.feed_forward_norm);
  const Tensor fed = moe_ ? moe_->forward(ctx, normed, routing, saved.moe) : feed_forward_->forward(ctx, normed, saved.feed_forward);
  return feed_forward_dropout_.add(ctx, a, fed);
}

void Block::backward(Context& ctx, const Tensor& dx, const Saved& saved, Gradients& grads) const {
  {
    const Arena::Mark mark(ctx.scratch);
    const Tensor dfed = feed_forward_dropout_.backward(ctx, dx);
    const Tensor dnormed = moe_ ? moe_->backward(ctx, dfed, saved.moe, grads) : feed_forward_->backward(ctx, dfed, saved.feed_forward, grads);
    feed_forward_norm_.backward(ctx, dnormed, saved.feed_forward_norm, grads, Accumulate(dx));
  }
  const Arena::Mark mark(ctx.scratch);
  const Tensor dattended = attention_dropout_.backward(ctx, dx);
  const Tensor dnormed = attention_.backward(ctx, dattended, saved.attention, grads);
  attention_norm_.backward(ctx, dnormed, saved.attention_norm, grads, Accumulate(dx));
}

Tensor Block::forward_cached(Context& ctx, const Tensor& x, KeyValueCache& cache, const RoutingBatch& routing, Saved& saved) const {
  const Arena::Mark mark(ctx.scratch);
  const Tensor normed = attention_norm_.forward(ctx, x, saved.attention_norm);
  const Tensor attended = attention_.forward_cached(ctx, normed, cache);
  const Tensor a = attention_dropout_.add(ctx, x, attended);
  return feed_forward(ctx, a, routing, saved);
}

void Block::visit(const ParameterVisitor& visitor) {
  attention_norm_.visit(visitor);
  attention_.visit(visitor);
  feed_forward_norm_.visit(visitor);
  if (moe_) {
    moe_->visit(visitor);
  } else {
    feed_forward_->visit(visitor);
  }
}

}  // namespace switchyard
