// Block: attention and a feed-forward or MoE sublayer, each inside a residual (residual.h):
//
//   a = residual(attention, x)
//   y = residual(feed_forward, a)      or the MoE layer in its place
#pragma once

#include <optional>
#include <string>

#include "src/layers/attention.h"
#include "src/layers/feed_forward.h"
#include "src/model/options.h"
#include "src/model/residual.h"
#include "src/moe/moe_layer.h"

namespace switchyard {

class Block {
 public:
  struct Saved {
    Residual::Saved attention_residual, feed_forward_residual;
    AttentionLayer::Saved attention;
    FeedForwardLayer::Saved feed_forward;  // of a dense block
    MoeLayer::Saved moe;                   // of a MoE block. It is pinned, so a Block::Saved is too
  };

  // Block `index` of the stack `stack` ("decoder"): names are "<stack>.block.<index>.attention..." and so on.
  // moe_layer: its number among the MoE layers, or -1 for a dense block. The communicator and the grid outlive the block.
  Block(const std::string& stack, int index, int moe_layer, const ModelOptions& options, Communicator& communicator, const Grid& grid);

  // x [T, D] activation in ctx.saved -> y [T, D] activation, in ctx.saved.
  Tensor forward(Context& ctx, const Tensor& x, const AttentionPlan& plan, const RoutingBatch& routing, Saved& saved) const;
  // dx [T, D] activation, in place: the gradient of y becomes the gradient of x. dbias: the gradient of plan.bias, or none.
  void backward(Context& ctx, const Tensor& dx, const Saved& saved, Gradients& grads, Target dbias) const;
  // The next tokens of each sequence. bias: of the new queries (AttentionLayer::forward_cached); `saved` is working memory.
  Tensor forward_cached(Context& ctx, const Tensor& x, KeyValueCache& cache, const Tensor& bias, const RoutingBatch& routing, Saved& saved) const;

  bool is_moe() const { return moe_.has_value(); }
  int64_t cache_columns() const { return attention_.cache_columns(); }

  // In forward order. Backward closes dense parameters in the reverse of it.
  void visit(const ParameterVisitor& visitor);
  // Of a MoE block.
  void visit_router(const RouterStateVisitor& visitor) {
    if (moe_) visitor(moe_->router_state());
  }

 private:
  Tensor feed_forward(Context& ctx, const Tensor& a, const RoutingBatch& routing, Saved& saved) const;

  Residual attention_residual_, feed_forward_residual_;
  AttentionLayer attention_;
  std::optional<FeedForwardLayer> feed_forward_;  // this one
  std::optional<MoeLayer> moe_;                   // or that one
};

}  // namespace switchyard
