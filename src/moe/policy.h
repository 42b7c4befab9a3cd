// RoutingPolicy: every way of routing but plain top-1, which has kernels. The device computes probabilities; here they
// are brought to the host, decided upon (decision.h), and the decision becomes a Route. Backward turns the gradient of
// the gates into that of the logits (gates.h).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "src/layers/context.h"
#include "src/moe/decision.h"
#include "src/moe/options.h"
#include "src/moe/route.h"
#include "src/moe/router_state.h"

namespace switchyard {

class RoutingPolicy {
 public:
  // What the softmax gave; none of both in hash routing.
  struct Probabilities {
    Tensor p;            // [T, E] exact
    Tensor log_sum_exp;  // [T] exact
  };
  struct Saved {
    Decision decision;
    std::vector<double> shares;  // [G, E] f of the balance loss
  };

  // `layer` is the number of the MoE layer.
  RoutingPolicy(int layer, const MoeOptions& options);

  // Whether the kernels of plain top-1 routing do all that is asked for.
  static bool is_plain(const MoeOptions& options);
  // Whether choices are made from probabilities. Not so in hash routing, which needs no router.
  bool reads_probabilities() const { return options_.router != RouterKind::kHash; }
  // Whether the balance loss has a meaning: experts that choose are balanced, and so is a table.
  bool balances() const { return options_.router != RouterKind::kExpertChoice && options_.router != RouterKind::kHash; }

  // route.shape, choices, capacity and the tensors are there; fills the tensors, and sums with what router_losses gives.
  // Decisions are recorded in or replayed from ctx.routes.
  void forward(Context& ctx, const RoutingBatch& batch, const RouterState& state, const Probabilities& probabilities, Route& route,
               std::array<double, kRouterSums>& sums, Saved& saved) const;

  // dgate [T, k] exact -> dlogits [T, E] exact. loss: as in forward.
  void backward(Context& ctx, const Tensor& dgate, const Probabilities& probabilities, const RouterLoss& loss, const Saved& saved, Out dlogits) const;

 private:
  template <class T>
  void decide(Context& ctx, const RouterState& state, std::span<const T> probabilities, int64_t capacity, Decision& decision) const;
  template <class T>
  void choose(Context& ctx, const RouterState& state, std::span<const T> probabilities, int64_t capacity, Decision& decision) const;
  void record(const Context& ctx, const Decision& decision) const;
  void replay(const Context& ctx, Decision& decision) const;

  int layer_;
  MoeOptions options_;
  std::vector<int32_t> table_;  // [vocabulary] of hash routing
};

}  // namespace switchyard
