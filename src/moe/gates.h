// Gates: what the row that an expert returns is multiplied by, the router's own losses, and the gradient of both with
// respect to the logits. Pure functions on the host; k choices a token (decision.h). For one choice a token they compute
// what the backend's router_losses and router_backward do.
//
// Probabilities are [T, E] of float or double, gates [T, k].
#pragma once

#include <array>
#include <span>
#include <vector>

#include "src/moe/decision.h"
#include "src/moe/options.h"

namespace switchyard {

// With p_c the probability of choice c's expert, asked or not:
//   kProbability   p_c
//   kRenormalised  p_c / sum of p over the token's choices
//   kMaskOnly      1
// 0 where there is no choice.
template <class T>
void gates_of(GateKind kind, std::span<const T> probabilities, const Decision& decision, std::vector<T>& gates);

// f of the balance loss: [G, E] the fraction of a group's choices that fell on each expert, asked or not, before
// capacity; so that uniform routing costs alpha for every k. 0 where a group has no choice.
void shares_of(const Decision& decision, std::vector<double>& shares);

// kRouterSums, as router_losses has them. The gate of the statistics is the largest probability of a token's choices.
template <class T>
std::array<double, kRouterSums> router_sums(std::span<const T> probabilities, std::span<const T> log_sum_exp, const Decision& decision,
                                            std::span<const double> shares, const RouterLoss& loss);

// dlogits [T, E]: of the gates' gradient dgate [T, k], the balance loss with f held constant, and the z loss, through the
// softmax; 0 for padding.
template <class T>
void router_gradient(GateKind kind, std::span<const T> dgate, std::span<const T> probabilities, std::span<const T> log_sum_exp, const Decision& decision,
                     std::span<const double> shares, const RouterLoss& loss, std::vector<T>& dlogits);

}  // namespace switchyard
