#include "src/moe/gates.h"

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

size_t at(int64_t row, int64_t columns, int64_t column = 0) { return static_cast<size_t>(row * columns + column); }

// Calls visit(choice, expert) for the choices of one token.
template <class Visit>
void for_each_choice(const Decision& decision, int64_t token, Visit visit) {
  for (int64_t c = 0; c < decision.choices; ++c) {
    const int32_t expert = considered(decision.expert[at(token, decision.choices, c)]);
    if (expert >= 0) visit(c, expert);
  }
}

// [G] tokens that are not padding.
std::vector<double> counted_tokens(const Decision& decision) {
  std::vector<double> counts(static_cast<size_t>(decision.shape.groups()), 0.0);
  for (int64_t t = 0; t < decision.shape.tokens; ++t) counts[at(t / decision.shape.group_tokens, 1)] += decision.counts(t) ? 1 : 0;
  return counts;
}

// Adds to dp [E] what the gates of one token ask of its probabilities.
template <class T>
void add_gate_gradient(GateKind kind, const T* dgate, const T* p, const Decision& decision, int64_t token, T* dp) {
  if (kind == GateKind::kMaskOnly) return;
  if (kind == GateKind::kProbability) return for_each_choice(decision, token, [&](int64_t c, int32_t e) { dp[e] += dgate[c]; });
  T total = 0, mean = 0;
  for_each_choice(decision, token, [&](int64_t c, int32_t e) {
    total += p[e];
    mean += p[e] * dgate[c];
  });
  for_each_choice(decision, token, [&](int64_t c, int32_t e) { dp[e] += (dgate[c] - mean / total) / total; });
}

}  // namespace

template <class T>
void gates_of(GateKind kind, std::span<const T> probabilities, const Decision& decision, std::vector<T>& gates) {
  gates.assign(decision.expert.size(), T{0});
  for (int64_t t = 0; t < decision.shape.tokens; ++t) {
    const T* p = probabilities.data() + t * decision.shape.experts;
    T* row = gates.data() + t * decision.choices;
    T total = 0;
    if (kind == GateKind::kRenormalised) for_each_choice(decision, t, [&](int64_t, int32_t e) { total += p[e]; });
    for_each_choice(decision, t, [&](int64_t c, int32_t e) {
      switch (kind) {
        case GateKind::kProbability: row[c] = p[e]; break;
        case GateKind::kRenormalised: row[c] = p[e] / total; break;
        case GateKind::kMaskOnly: row[c] = 1; break;
      }
    });
  }
}

void shares_of(const Decision& decision, std::vector<double>& shares) {
  const int64_t experts = decision.shape.experts;
  shares.assign(at(decision.shape.groups(), experts), 0.0);
  for (int64_t t = 0; t < decision.shape.tokens; ++t) {
    for_each_choice(decision, t, [&](int64_t, int32_t e) { ++shares[at(t / decision.shape.group_tokens, experts, e)]; });
  }
  for (int64_t group = 0; group < decision.shape.groups(); ++group) {
    double* row = shares.data() + group * experts;
    double count = 0;
    for (int64_t e = 0; e < experts; ++e) count += row[e];
    for (int64_t e = 0; count > 0 && e < experts; ++e) row[e] /= count;
  }
}

template <class T>
std::array<double, kRouterSums> router_sums(std::span<const T> probabilities, std::span<const T> log_sum_exp, const Decision& decision,
                                            std::span<const double> shares, const RouterLoss& loss) {
  const int64_t experts = decision.shape.experts;
  const std::vector<double> counts = counted_tokens(decision);
  std::array<double, kRouterSums> sums{};
  std::vector<double> mass(static_cast<size_t>(experts));
  for (int64_t group = 0; group < decision.shape.groups(); ++group) {
    std::fill(mass.begin(), mass.end(), 0.0);
    for (int64_t t = group * decision.shape.group_tokens; t < std::min((group + 1) * decision.shape.group_tokens, decision.shape.tokens); ++t) {
      if (!decision.counts(t)) continue;
      const T* p = probabilities.data() + t * experts;
      const auto total = static_cast<double>(log_sum_exp[at(t, 1)]);
      T best = 0;
      for_each_choice(decision, t, [&](int64_t, int32_t e) { best = std::max(best, p[e]); });
      sums[1] += total * total;
      sums[3] += static_cast<double>(best);
      for (int64_t e = 0; e < experts; ++e) {
        const auto value = static_cast<double>(p[e]);
        if (value > 0) sums[2] -= value * std::log(value);
        mass[static_cast<size_t>(e)] += value;
      }
    }
    const double count = counts[static_cast<size_t>(group)];
    for (int64_t e = 0; count > 0 && e < experts; ++e) sums[0] += shares[at(group, experts, e)] * (mass[static_cast<size_t>(e)] / count);
  }
  sums[0] *= loss.balance;
  sums[1] *= loss.z;
  return sums;
}

template <class T>
void router_gradient(GateKind kind, std::span<const T> dgate, std::span<const T> probabilities, std::span<const T> log_sum_exp, const Decision& decision,
                     std::span<const double> shares, const RouterLoss& loss, std::vector<T>& dlogits) {
  const int64_t experts = decision.shape.experts;
  const std::vector<double> counts = counted_tokens(decision);
  dlogits.assign(probabilities.size(), T{0});
  for (int64_t t = 0; t < decision.shape.tokens; ++t) {
    if (!decision.counts(t)) continue;
    const int64_t group = t / decision.shape.group_tokens;
    const T* p = probabilities.data() + t * experts;
    T* d = dlogits.data() + t * experts;
    for (int64_t e = 0; e < experts; ++e) d[e] = static_cast<T>(loss.balance * shares[at(group, experts, e)] / counts[static_cast<size_t>(group)]);
    add_gate_gradient(kind, dgate.data() + t * decision.choices, p, decision, t, d);
    T mean = 0;  // sum_i p_i dp_i
    for (int64_t e = 0; e < experts; ++e) mean += p[e] * d[e];
    const T z = static_cast<T>(2 * loss.z) * log_sum_exp[at(t, 1)];
    for (int64_t e = 0; e < experts; ++e) d[e] = p[e] * (d[e] - mean) + z * p[e];
  }
}

#define SWITCHYARD_GATES_IN(T)                                                                                                                               \
  template void gates_of(GateKind, std::span<const T>, const Decision&, std::vector<T>&);                                                                    \
  template std::array<double, kRouterSums> router_sums(std::span<const T>, std::span<const T>, const Decision&, std::span<const double>, const RouterLoss&); \
  template void router_gradient(GateKind, std::span<const T>, std::span<const T>, std::span<const T>, const Decision&, std::span<const double>,              \
                                const RouterLoss&, std::vector<T>&)
SWITCHYARD_GATES_IN(float);
SWITCHYARD_GATES_IN(double);
#undef SWITCHYARD_GATES_IN

}  // namespace switchyard
