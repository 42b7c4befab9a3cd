#include "src/moe/router.h"

#include <algorithm>
#include <cmath>

#include "src/layers/initializers.h"

namespace switchyard {
namespace {

double rounded(double slots, CapacityRounding rounding) {
  switch (rounding) {
    case CapacityRounding::kDown: return std::floor(slots);
    case CapacityRounding::kNearest: return std::nearbyint(slots);  // the default mode: half to even
    case CapacityRounding::kUp: return std::ceil(slots);
  }
  return slots;
}

Product product_of(const Tensor& x, const PackedMatrix& matrix, Target y) {
  Product product;
  product.x = x;
  product.matrix = &matrix;
  product.y = y;
  return product;
}

// [T, k] as a list of choices.
Tensor flat(const Tensor& x) { return x.reshape({x.elements()}); }

// gates[t] = probabilities[t, expert[t]], 0 for padding.
template <class T>
void choose_gates(Backend& backend, const Tensor& probabilities, const std::vector<int32_t>& expert, Out gate) {
  const size_t experts = static_cast<size_t>(probabilities.columns());
  std::vector<T> host(static_cast<size_t>(probabilities.elements()));
  std::vector<T> gates(expert.size());
  backend.copy_to_host(probabilities, host.data());
  for (size_t t = 0; t < expert.size(); ++t) gates[t] = expert[t] < 0 ? T{0} : host[t * experts + static_cast<size_t>(expert[t])];
  backend.copy_from_host(gates.data(), gate);
}

}  // namespace

int64_t capacity(const MoeOptions& options, int64_t group_tokens, bool training) {
  const double factor = training ? options.capacity_factor : options.eval_capacity_factor;
  if (factor == 0) return std::max<int64_t>(group_tokens, 1);
  const double slots = rounded(static_cast<double>(group_tokens) * factor / options.experts, options.capacity_rounding);
  const int64_t bounded = static_cast<int64_t>(std::min(slots, static_cast<double>(group_tokens)));  // min first: a huge factor fits no integer
  return std::max<int64_t>({bounded, options.min_capacity, 1});
}

int64_t group_tokens_of(const MoeOptions& options, int64_t tokens) {
  const int64_t whole = std::max<int64_t>(tokens, 1);
  return options.group_tokens == 0 ? whole : std::min(options.group_tokens, whole);
}

RouterLoss router_loss(const MoeOptions& options, int64_t groups, int64_t tokens, int moe_layers) {
  RouterLoss loss;
  const double alpha = options.balance_over_layers == OverLayers::kMean ? options.balance_loss / std::max(moe_layers, 1) : options.balance_loss;
  if (groups > 0) loss.balance = options.experts * alpha / static_cast<double>(groups);
  if (tokens > 0) loss.z = options.z_loss / static_cast<double>(tokens);
  return loss;
}

Router::Router(const std::string& prefix, int layer, const MoeShape& shape, const MoeOptions& options)
    : layer_(layer), options_(options), state_(make_router_state(prefix + ".router", options)) {
  weight_.name = prefix + ".router.weight";
  weight_.shape = {options.experts, shape.width};
  weight_.initializer = scaled_fan_in(shape.initializer_scale, shape.width);
  weight_.forms = {.packed_forward = true, .packed_backward = true, .packed_exact = true};
}

void Router::visit(const ParameterVisitor& visitor) { visitor(weight_); }

// [T, D] exact: what the router sees. x itself where nothing would change.
Tensor Router::input_copy(Context& ctx, const Tensor& x) const {
  const double epsilon = jitter(ctx);
  if (epsilon == 0 && x.dtype() == ctx.precision.exact) return x;
  Tensor copy = ctx.temporary(ctx.precision.exact, x.shape());
  ctx.backend.jitter(Out(copy), x, epsilon, ctx.random(Purpose::kJitter, layer_));
  return copy;
}

const Route& Router::forward(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const {
  const Dtype exact = ctx.precision.exact;
  const int64_t tokens = x.rows(), experts = options_.experts;
  Route& route = saved.route;
  route.shape = {tokens, experts, group_tokens_of(options_, tokens)};
  route.capacity = capacity(options_, route.shape.group_tokens, ctx.training);
  route.choices = 1;
  route.expert = ctx.keep(Dtype::kI32, {tokens, 1});
  route.gate = ctx.keep(exact, {tokens, 1});
  route.position = ctx.keep(Dtype::kI32, {tokens, 1});
  route.token = ctx.keep(Dtype::kI32, {tokens});
  route.source = route.token;  // with one choice each
  route.requested = ctx.keep(Dtype::kI32, {route.shape.groups(), experts});
  route.kept = ctx.keep(Dtype::kI32, {experts});
  saved.x = x;
  saved.loss = batch.loss;
  saved.probabilities = ctx.keep(exact, {tokens, experts});
  saved.log_sum_exp = ctx.keep(exact, {tokens});

  const Arena::Mark mark(ctx.scratch);
  const Tensor logits = ctx.temporary(exact, {tokens, experts});
  const Product product = product_of(input_copy(ctx, x), weight_.forward, Out(logits));
  ctx.backend.multiply({&product, 1});
  ctx.backend.router_forward(Out(saved.probabilities), Out(saved.log_sum_exp), Out(flat(route.expert)), Out(flat(route.gate)), logits, batch.mask);
  if (ctx.routes != nullptr) record_or_replay(ctx, saved);
  const Tensor slot = ctx.temporary(Dtype::kI32, {tokens});
  ctx.backend.assign_slots(Out(route.requested), Out(route.kept), Out(slot), Out(flat(route.position)), Out(route.token), flat(route.expert), route.shape,
                           route.capacity);
  count(ctx, saved);
  return route;
}

void Router::record_or_replay(Context& ctx, Saved& saved) const {
  const RouteBook::Place place{layer_, ctx.key.lane, ctx.key.accumulation};
  const Route& route = saved.route;
  if (ctx.routes->mode == RouteBook::Mode::kRecord) {
    std::vector<int32_t>& expert = ctx.routes->experts[place];
    expert.resize(static_cast<size_t>(route.shape.tokens));
    ctx.backend.copy_to_host(route.expert, expert.data());
    return;
  }
  const auto found = ctx.routes->experts.find(place);
  check(found != ctx.routes->experts.end(), "Router: replay of a micro-batch that was not recorded");
  const std::vector<int32_t>& expert = found->second;
  check(static_cast<int64_t>(expert.size()) == route.shape.tokens, "Router: replay of another number of tokens than were recorded");
  for (const int32_t e : expert) check(e >= -1 && e < route.shape.experts, "Router: replay of an expert that does not exist");
  ctx.backend.copy_from_host(expert.data(), Out(route.expert));
  if (ctx.precision.exact == Dtype::kF64) {
    choose_gates<double>(ctx.backend, saved.probabilities, expert, Out(route.gate));
  } else {
    choose_gates<float>(ctx.backend, saved.probabilities, expert, Out(route.gate));
  }
}

// Brings to the host what exchange and reports need, and adds up the losses.
void Router::count(Context& ctx, Saved& saved) const {
  Route& route = saved.route;
  RouterStatistics& statistics = saved.statistics;
  const size_t experts = static_cast<size_t>(route.shape.experts);
  const Tensor sums = ctx.temporary(Dtype::kF64, {kRouterSums});
  ctx.backend.router_losses(Out(sums), saved.probabilities, saved.log_sum_exp, flat(route.expert), route.requested, route.shape, saved.loss);
  ctx.backend.copy_to_host(sums, statistics.sums.data());
  route.kept_on_host.resize(experts);
  ctx.backend.copy_to_host(route.kept, route.kept_on_host.data());
  saved.requested_on_host.resize(static_cast<size_t>(route.requested.elements()));
  ctx.backend.copy_to_host(route.requested, saved.requested_on_host.data());

  statistics.requested.assign(experts, 0);
  statistics.kept.assign(route.kept_on_host.begin(), route.kept_on_host.end());
  for (size_t i = 0; i < saved.requested_on_host.size(); ++i) statistics.requested[i % experts] += saved.requested_on_host[i];
  statistics.tokens = 0;
  route.entries = 0;
  for (const int64_t requested : statistics.requested) statistics.tokens += requested;
  for (const int64_t kept : statistics.kept) route.entries += kept;
  statistics.dropped = statistics.tokens - route.entries;
}

void Router::backward(Context& ctx, const Tensor& dgate, const Saved& saved, Gradients& grads, Accumulate dx) const {
  const Dtype exact = ctx.precision.exact;
  const Route& route = saved.route;
  const Arena::Mark mark(ctx.scratch);
  const Tensor dlogits = ctx.temporary(exact, {route.shape.tokens, route.shape.experts});
  ctx.backend.router_backward(Out(dlogits), flat(dgate), saved.probabilities, saved.log_sum_exp, flat(route.expert), route.requested, route.shape, saved.loss);

  // The jittered input is drawn again rather than kept.
  const OuterProduct outer{.dy = dlogits, .x = input_copy(ctx, saved.x), .dw = grads.target(weight_)};
  ctx.backend.multiply_outer({&outer, 1});
  grads.done(weight_);

  const double epsilon = jitter(ctx);
  if (epsilon == 0) {
    const Product product = product_of(dlogits, weight_.backward, dx);
    ctx.backend.multiply({&product, 1});
    return;
  }
  const Tensor dcopy = ctx.temporary(exact, saved.x.shape());
  const Product product = product_of(dlogits, weight_.backward, Out(dcopy));
  ctx.backend.multiply({&product, 1});
  ctx.backend.jitter(dx, dcopy, epsilon, ctx.random(Purpose::kJitter, layer_));
}

}  // namespace switchyard
