// Router: assigns each token to one expert and weighs what that expert returns (switch.md 1.2-1.6).
//
//   r = exact(x), times u in [1 - jitter, 1 + jitter) while training; the experts see x as it is
//   h = r W^T,  p = softmax(h),  expert = argmax p (lowest index on a tie),  gate = p[expert]
//
// All of it in the exact dtype. The z loss sees the same h as the softmax, so the jittered one while training.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "src/layers/context.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"
#include "src/moe/options.h"
#include "src/moe/route.h"
#include "src/moe/router_state.h"

namespace switchyard {

// Slots of one expert in one token group of `group_tokens` tokens (switch.md 1.3):
//   C = max(min(S, round(S * factor / E)), min_capacity), and at least 1;  factor 0: C = S, no token is dropped.
int64_t capacity(const MoeOptions& options, int64_t group_tokens, bool training);

// Tokens of a token group in micro-batches of `tokens` tokens; at least 1.
int64_t group_tokens_of(const MoeOptions& options, int64_t tokens);

// Weights of one router's losses in a step with `groups` token groups that have a token and `tokens` tokens that are
// not padding: balance = E * alpha / groups, z = c_z / tokens. A step without tokens weighs nothing. Where the balance
// losses are averaged over `moe_layers` layers, alpha is divided by their number.
RouterLoss router_loss(const MoeOptions& options, int64_t groups, int64_t tokens, int moe_layers);

// What one router did with one micro-batch, on the host.
struct RouterStatistics {
  std::array<double, kRouterSums> sums{};  // balance, z, entropy, gate: see kRouterSums
  std::vector<int64_t> requested;          // [E] tokens that chose the expert, before capacity
  std::vector<int64_t> kept;               // [E] after capacity
  int64_t tokens = 0;                      // that are not padding: the sum of requested
  int64_t dropped = 0;                     // the sum of requested - kept
};

class Router {
 public:
  struct Saved {
    Tensor x;              // [T, D] activation: the layer's input, alive until backward
    Tensor probabilities;  // [T, E] exact
    Tensor log_sum_exp;    // [T] exact
    RouterLoss loss;
    Route route;
    RouterStatistics statistics;
    std::vector<int32_t> requested_on_host;  // [G, E]; here so that its memory is reused
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

 private:
  Tensor input_copy(Context& ctx, const Tensor& x) const;
  double jitter(const Context& ctx) const { return ctx.training ? options_.jitter : 0; }
  void record_or_replay(Context& ctx, Saved& saved) const;
  void count(Context& ctx, Saved& saved) const;

  int layer_;
  MoeOptions options_;
  Parameter weight_;  // [E, D]
  RouterState state_;
};

}  // namespace switchyard
