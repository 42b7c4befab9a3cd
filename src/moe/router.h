// Router: assigns each token to experts and weighs what they return (switch.md 1.2-1.7).
//
//   r = exact(x); while training times u in [1 - jitter, 1 + jitter), or with dropout; the experts see x as it is
//   h = r W^T; while training perhaps plus u,  p = softmax(h)
//   top-1: expert = argmax p (lowest index on a tie),  gate = p[expert];  all else: see RoutingPolicy
//
// All of it in the exact dtype, but for router_bf16: then r, W and h are rounded to bf16. The z loss sees the same h as
// the softmax, so the jittered one while training. Hash routing has no weight and no logits.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "src/layers/context.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"
#include "src/moe/capacity.h"
#include "src/moe/options.h"
#include "src/moe/policy.h"
#include "src/moe/route.h"
#include "src/moe/router_state.h"

namespace switchyard {

// Weights of one router's losses in a step with `groups` token groups that have a token and `tokens` tokens that are
// not padding: balance = E * alpha / groups, z = c_z / tokens. A step without tokens weighs nothing. Where the balance
// losses are averaged over `moe_layers` layers, alpha is divided by their number.
RouterLoss router_loss(const MoeOptions& options, int64_t groups, int64_t tokens, int moe_layers);

// What one router did with one micro-batch, on the host.
struct RouterStatistics {
  std::array<double, kRouterSums> sums{};  // balance, z, entropy, gate: see kRouterSums
  std::vector<int64_t> requested;          // [E] choices that asked the expert, before capacity; first choices where a token
                                           // asks on until it is kept
  std::vector<int64_t> kept;               // [E] after capacity
  int64_t tokens = 0;                      // that are not padding
  int64_t asked = 0;                       // what `dropped` is a part of: the sum of requested; tokens where experts choose
  int64_t dropped = 0;                     // choices that were refused: the sum of requested - kept; tokens without an entry
                                           // where experts choose
};

class Router {
 public:
  struct Saved {
    Tensor x;              // [T, D] activation: the layer's input, alive until backward
    Tensor probabilities;  // [T, E] exact; none in hash routing
    Tensor log_sum_exp;    // [T] exact; none in hash routing
    Tensor sums;           // [kRouterSums] F64; none where the host knows them already
    RouterLoss loss;
    Route route;
    RoutingPolicy::Saved policy;        // of all but plain top-1
    mutable Backend* unread = nullptr;  // has the numbers of `counted` that are not on the host yet
    mutable RouterStatistics counted;   // see statistics()
    mutable std::vector<int32_t> read;  // [G, E] or [E]; here so that its memory is reused

    // Waits for the device the first time after a forward, which must be while its saved memory is there.
    const RouterStatistics& statistics() const;
  };

  // `layer` is the number of the MoE layer. The weight is named `<prefix>.router.weight`.
  Router(const std::string& prefix, int layer, const MoeShape& shape, const MoeOptions& options);

  // x [T, D] activation. Fills saved and returns saved.route. Routes are recorded in or replayed from ctx.routes; a
  // replay without this micro-batch is an InternalError.
  const Route& forward(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const;

  // dgate [T, k] exact: gradient of the gates, 0 where dropped. Adds to dx [T, D] exact.
  void backward(Context& ctx, const Tensor& dgate, const Saved& saved, Gradients& grads, Accumulate dx) const;

  void visit(const ParameterVisitor& visitor);
  // Changed between steps only, by whoever trains or loads the model.
  RouterState& state() { return state_; }
  const RouterState& state() const { return state_; }

 private:
  bool plain() const { return RoutingPolicy::is_plain(options_); }
  // Of the exploration `kind`; 0 where another one is asked for, and in evaluation.
  double strength(const Context& ctx, Exploration kind) const { return ctx.training && options_.exploration == kind ? options_.jitter : 0; }
  void begin(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const;
  Tensor input_copy(Context& ctx, const Tensor& x) const;
  void input_backward(Context& ctx, const Tensor& dlogits, const Tensor& x, Accumulate dx) const;
  PackedMatrix weight(Context& ctx, Side side) const;
  Tensor logits(Context& ctx, const Tensor& x) const;
  void record_or_replay(Context& ctx, Saved& saved) const;
  void list(Context& ctx, Saved& saved) const;

  int layer_;
  MoeOptions options_;
  RoutingPolicy policy_;
  Parameter weight_;  // [E, D]
  RouterState state_;
};

}  // namespace switchyard
