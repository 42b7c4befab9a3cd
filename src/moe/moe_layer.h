// MoeLayer: the feed-forward sublayer of a sparse block. A token's row meets router, exchange, expert, exchange and gate,
// in this order:
//
//   y[t] = sum over the token's entries of gate * expert(x[t]), 0 for a dropped token and for padding: the residual
//   carries it
//
// Shared experts add their output for every row, padding included (DeepSeek-MoE). In Soft MoE the mixer stands in the
// router's place, and its slots travel instead of tokens.
#pragma once

#include <optional>
#include <string>

#include "src/layers/feed_forward.h"
#include "src/moe/exchange.h"
#include "src/moe/experts.h"
#include "src/moe/router.h"
#include "src/moe/soft_mixer.h"

namespace switchyard {

class MoeLayer {
 public:
  // One per micro-batch whose backward is still to come. Kept from step to step: its vectors reuse their memory.
  struct Saved {
    Router::Saved router;  // the route and the statistics are here, the mixer's too
    SoftMixer::Saved mixer;
    RowTable table;  // pinned: the saved rows point to it, so a Saved is neither copied nor moved in use
    Experts::Saved experts;
    Tensor returned;  // [entries, D] activation: what came back, sorted by (expert, slot)
    FeedForwardLayer::Saved shared;
    mutable PayloadLosses payload;  // of compressed ways; those of backward are known after it

    const Route& route() const { return router.route; }
    const RouterStatistics& statistics() const { return router.statistics(); }
  };

  // `prefix` is the layer's global name, such as "decoder.block.3.moe"; `layer` counts the MoE layers of the model from
  // 0 and names random draws, collectives and owners. The communicator and the grid outlive the layer.
  MoeLayer(const std::string& prefix, int layer, const MoeShape& shape, const MoeOptions& options, Communicator& communicator, const Grid& grid);

  // x [T, D] activation, alive until backward. Returns [T, D] in scratch memory. Collective: T = 0 on an empty lane.
  Tensor forward(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const;

  // dy [T, D] activation -> gradient of x [T, D] activation in scratch memory: of the layer's output and of the router's
  // own losses. Collective.
  Tensor backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads) const;

  // The router or mixer, the shared experts as `<prefix>.shared.in.weight` and so on, then the experts by number.
  void visit(const ParameterVisitor& visitor);
  RouterState& router_state() { return router_.state(); }

 private:
  Tensor route(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const;
  Tensor send_first(Context& ctx, const Tensor& dy, const Saved& saved, Trip& trip) const;
  void experts_backward(Context& ctx, const Tensor& dy, const Saved& saved, Trip& trip, Gradients& grads) const;

  int layer_;
  int64_t width_;
  Router router_;
  Exchange exchange_;
  Experts experts_;
  std::optional<SoftMixer> mixer_;          // in Soft MoE; the router is idle then
  std::optional<FeedForwardLayer> shared_;  // one layer as wide as all shared experts
};

}  // namespace switchyard
