#include "src/moe/policy.h"

#include <algorithm>

#include "src/moe/capacity.h"
#include "src/moe/gates.h"

namespace switchyard {
namespace {

template <class T>
std::vector<T> on_host(Context& ctx, const Tensor& x) {
  std::vector<T> numbers(static_cast<size_t>(x.exists() ? x.elements() : 0));
  if (!numbers.empty()) ctx.backend.copy_to_host(x, numbers.data());
  return numbers;
}

// Calls function.template operator()<T>() with the exact number type.
template <class Function>
void with_exact(Dtype exact, Function function) {
  if (exact == Dtype::kF64) return function.template operator()<double>();
  function.template operator()<float>();
}

// Copies `numbers` to the front of y and fills the rest with -1.
void put(Context& ctx, const std::vector<int32_t>& numbers, const Tensor& y) {
  std::vector<int32_t> all(numbers);
  all.resize(static_cast<size_t>(y.elements()), -1);
  ctx.backend.copy_from_host(all.data(), Out(y));
}

void put_decision(Context& ctx, const Decision& decision, Route& route) {
  put(ctx, decision.expert, route.expert);
  put(ctx, decision.position, route.position);
  put(ctx, decision.source, route.source);
  std::vector<int32_t> token(decision.source);
  for (int32_t& source : token) source = static_cast<int32_t>(source / decision.choices);
  put(ctx, token, route.token);
  put(ctx, decision.requested, route.requested);
  put(ctx, decision.kept, route.kept);
}

}  // namespace

RoutingPolicy::RoutingPolicy(int layer, const MoeOptions& options) : layer_(layer), options_(options) {
  if (options.router == RouterKind::kHash) table_ = hash_table(options.seed, layer, options.vocabulary, options.experts);
}

bool RoutingPolicy::is_plain(const MoeOptions& options) {
  return options.router == RouterKind::kTopK && options.top_k == 1 && options.order == SlotOrder::kLeftToRight && options.exploration != Exploration::kSample &&
         options.gate == GateKind::kProbability && options.bias_rate == 0 && options.balance_scope == BalanceScope::kPerGroup;
}

template <class T>
void RoutingPolicy::choose(Context& ctx, const RouterState& state, std::span<const T> probabilities, int64_t capacity, Decision& decision) const {
  if (options_.router == RouterKind::kExpertChoice) return choose_tokens(probabilities, capacity, decision);
  std::vector<T> scores;
  if (!state.bias.empty()) {
    scores.assign(probabilities.begin(), probabilities.end());
    for (size_t i = 0; i < scores.size(); ++i) scores[i] += static_cast<T>(state.bias[i % state.bias.size()]);
  } else if (options_.exploration == Exploration::kSample && ctx.training) {
    sampling_scores(probabilities, ctx.random(Purpose::kRouterSample, layer_), decision.shape, scores);
  }
  choose_experts(scores.empty() ? probabilities : std::span<const T>(scores), decision);
  if (options_.second_policy == SecondPolicy::kRandom && ctx.training) {
    std::vector<T> gates;
    gates_of(options_.gate, probabilities, decision, gates);
    ask_second_at_random(std::span<const T>(gates), ctx.random(Purpose::kSecondExpert, layer_), decision);
  }
}

template <class T>
void RoutingPolicy::decide(Context& ctx, const RouterState& state, std::span<const T> probabilities, int64_t capacity, Decision& decision) const {
  if (options_.router != RouterKind::kHash) choose(ctx, state, probabilities, capacity, decision);
  std::vector<int32_t> order;
  if (options_.order == SlotOrder::kBatchPrioritised) {
    order_by_score(probabilities, decision, order);
  } else {
    order_left_to_right(decision.shape.tokens, order);
  }
  if (options_.router == RouterKind::kNoTokenLeftBehind) {
    ask_until_kept(order, capacity, decision);
  } else {
    ask_for_slots(order, capacity, decision);
  }
}

void RoutingPolicy::forward(Context& ctx, const RoutingBatch& batch, const RouterState& state, const Probabilities& probabilities, Route& route,
                            std::array<double, kRouterSums>& sums, Saved& saved) const {
  Decision& decision = saved.decision;
  decision.begin(route.shape, route.choices);
  if (batch.mask.exists()) ctx.backend.copy_to_host(batch.mask, decision.mask.data());
  const bool replays = ctx.routes != nullptr && ctx.routes->mode == RouteBook::Mode::kReplay;
  with_exact(ctx.precision.exact, [&]<class T>() {
    const std::vector<T> p = on_host<T>(ctx, probabilities.p), totals = on_host<T>(ctx, probabilities.log_sum_exp);
    if (replays) {
      replay(ctx, decision);
    } else {
      if (options_.router == RouterKind::kHash) {
        check(batch.tokens.exists(), "hash routing: expected the numbers of the tokens");
        choose_by_table(on_host<int32_t>(ctx, batch.tokens), table_, decision);
      }
      decide(ctx, state, std::span<const T>(p), route.capacity, decision);
    }
    std::vector<T> gates;
    if (options_.router == RouterKind::kHash) {
      for (const int32_t expert : decision.expert) gates.push_back(expert < 0 ? T{0} : T{1});
      sums = {};
      sums[3] = static_cast<double>(std::count_if(decision.expert.begin(), decision.expert.end(), [](int32_t expert) { return expert >= 0; }));
    } else {
      gates_of(options_.gate, std::span<const T>(p), decision, gates);
      shares_of(decision, saved.shares);
      const std::vector<double> fractions = state.fractions();
      for (size_t i = 0; !fractions.empty() && i < saved.shares.size(); ++i) saved.shares[i] = fractions[i % fractions.size()];
      sums = router_sums(std::span<const T>(p), std::span<const T>(totals), decision, saved.shares, batch.loss);
    }
    if (!gates.empty()) ctx.backend.copy_from_host(gates.data(), Out(route.gate));
  });
  if (ctx.routes != nullptr && !replays) record(ctx, decision);
  put_decision(ctx, decision, route);
}

void RoutingPolicy::backward(Context& ctx, const Tensor& dgate, const Probabilities& probabilities, const RouterLoss& loss, const Saved& saved,
                             Out dlogits) const {
  with_exact(ctx.precision.exact, [&]<class T>() {
    const std::vector<T> dg = on_host<T>(ctx, dgate), p = on_host<T>(ctx, probabilities.p), totals = on_host<T>(ctx, probabilities.log_sum_exp);
    std::vector<T> d;
    router_gradient(options_.gate, std::span<const T>(dg), std::span<const T>(p), std::span<const T>(totals), saved.decision, saved.shares, loss, d);
    if (!d.empty()) ctx.backend.copy_from_host(d.data(), dlogits);
  });
}

void RoutingPolicy::record(const Context& ctx, const Decision& decision) const {
  const RouteBook::Place place{layer_, ctx.key.lane, ctx.key.accumulation};
  ctx.routes->experts[place] = decision.expert;
  ctx.routes->positions[place] = decision.position;
}

void RoutingPolicy::replay(const Context& ctx, Decision& decision) const {
  const RouteBook::Place place{layer_, ctx.key.lane, ctx.key.accumulation};
  const auto experts = ctx.routes->experts.find(place), positions = ctx.routes->positions.find(place);
  check(experts != ctx.routes->experts.end() && positions != ctx.routes->positions.end(), "Router: replay of a micro-batch that was not recorded");
  const size_t choices = decision.expert.size();
  check(experts->second.size() == choices && positions->second.size() == choices, "Router: replay of another number of choices than were recorded");
  for (size_t i = 0; i < choices; ++i) {
    check(considered(experts->second[i]) < decision.shape.experts && positions->second[i] < static_cast<int64_t>(choices),
          "Router: replay of an expert that does not exist");
  }
  decision.expert = experts->second;
  decision.position = positions->second;
  restore(decision);
}

}  // namespace switchyard
