#include "src/moe/router.h"

#include <algorithm>
#include <numeric>

#include "src/base/checked.h"
#include "src/layers/initializers.h"

namespace switchyard {
namespace {

Product product_of(const Tensor& x, const PackedMatrix& matrix, Target y) {
  Product product;
  product.x = x;
  product.matrix = &matrix;
  product.y = y;
  return product;
}

// [T, k] as a list of choices.
Tensor flat(const Tensor& x) { return x.reshape({x.elements()}); }

// A tensor of ones, exact, in scratch memory.
Tensor ones(Context& ctx, const Shape& shape) {
  const Tensor result = ctx.temporary(ctx.precision.exact, shape);
  const auto fill = [&](auto one) {
    const std::vector<decltype(one)> numbers(static_cast<size_t>(shape.elements()), one);
    ctx.backend.copy_from_host(numbers.data(), Out(result));
  };
  if (ctx.precision.exact == Dtype::kF64) {
    fill(1.0);
  } else {
    fill(1.0f);
  }
  return result;
}

// x [n, m] exact, in place.
void round_to_bf16(Context& ctx, const Tensor& x) {
  const Arena::Mark mark(ctx.scratch);
  const Tensor rounded = ctx.temporary(Dtype::kBF16, x.shape());
  ctx.backend.convert(Out(rounded), x);
  ctx.backend.convert(Out(x), rounded);
}

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

RouterLoss router_loss(const MoeOptions& options, int64_t groups, int64_t tokens, int moe_layers) {
  RouterLoss loss;
  const double alpha = options.balance_over_layers == OverLayers::kMean ? options.balance_loss / std::max(moe_layers, 1) : options.balance_loss;
  if (groups > 0) loss.balance = options.experts * alpha / static_cast<double>(groups);
  if (tokens > 0) loss.z = options.z_loss / static_cast<double>(tokens);
  return loss;
}

Router::Router(const std::string& prefix, int layer, const MoeShape& shape, const MoeOptions& options)
    : layer_(layer), options_(options), policy_(layer, options), state_(make_router_state(prefix + ".router", options)) {
  weight_.name = prefix + ".router.weight";
  weight_.shape = {options.experts, shape.width};
  weight_.initializer = scaled_fan_in(shape.initializer_scale, shape.width);
  // What is rounded is packed anew in every micro-batch.
  weight_.forms = options.router_bf16 ? Forms{.plain_exact = true} : Forms{.packed_forward = true, .packed_backward = true, .packed_exact = true};
}

void Router::visit(const ParameterVisitor& visitor) {
  if (policy_.reads_probabilities()) visitor(weight_);
}

// [T, D] exact: what the router sees. x itself where nothing would change.
Tensor Router::input_copy(Context& ctx, const Tensor& x) const {
  const double epsilon = strength(ctx, Exploration::kInputJitter), rate = strength(ctx, Exploration::kInputDropout);
  if (epsilon == 0 && rate == 0 && !options_.router_bf16 && x.dtype() == ctx.precision.exact) return x;
  Tensor copy = ctx.temporary(ctx.precision.exact, x.shape());
  ctx.backend.jitter(Out(copy), x, epsilon, ctx.random(Purpose::kJitter, layer_));
  if (rate > 0) ctx.backend.dropout(Out(copy), copy, {rate, ctx.random(Purpose::kRouterDropout, layer_)});
  if (options_.router_bf16) round_to_bf16(ctx, copy);
  return copy;
}

// The matrix that products read, for one side.
PackedMatrix Router::weight(Context& ctx, Side side) const {
  if (!options_.router_bf16) return side == Side::kForward ? weight_.forward : weight_.backward;
  const Tensor rounded = ctx.temporary(ctx.precision.exact, weight_.shape);
  ctx.backend.convert(Out(rounded), weight_.plain);
  round_to_bf16(ctx, rounded);
  PackedMatrix packed{Tensor(), ctx.precision.exact, weight_.rows(), weight_.columns(), side};
  packed.storage = ctx.temporary(Dtype::kI32, {divide_up(ctx.backend.packed_bytes(packed.dtype, packed.out, packed.in, side), 4)});
  ctx.backend.pack(packed, rounded);
  return packed;
}

// [T, E] exact: what the softmax reads.
Tensor Router::logits(Context& ctx, const Tensor& x) const {
  const Tensor logits = ctx.temporary(ctx.precision.exact, {x.rows(), options_.experts});
  const PackedMatrix matrix = weight(ctx, Side::kForward);
  const Product product = product_of(input_copy(ctx, x), matrix, Out(logits));
  ctx.backend.multiply({&product, 1});
  if (options_.router_bf16) round_to_bf16(ctx, logits);
  const double epsilon = strength(ctx, Exploration::kLogitNoise);
  if (epsilon > 0) ctx.backend.jitter(Accumulate(logits), ones(ctx, logits.shape()), epsilon, ctx.random(Purpose::kRouterNoise, layer_));
  return logits;
}

// Memory of what is kept, and the shape of the route.
void Router::begin(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const {
  const Dtype exact = ctx.precision.exact;
  const int64_t tokens = x.rows(), experts = options_.experts;
  Route& route = saved.route;
  route.shape = {tokens, experts, group_tokens_of(options_, tokens)};
  route.choices = choices_of(options_);
  route.capacity = capacity(options_, route.shape.group_tokens, ctx.training);
  route.block = ctx.training ? options_.fixed_block : 0;
  route.expert = ctx.keep(Dtype::kI32, {tokens, route.choices});
  route.gate = ctx.keep(exact, {tokens, route.choices});
  route.position = ctx.keep(Dtype::kI32, {tokens, route.choices});
  route.token = ctx.keep(Dtype::kI32, {route.block > 0 ? experts * route.block : tokens * route.choices});
  route.source = plain() ? route.token : ctx.keep(Dtype::kI32, {tokens * route.choices});
  route.requested = ctx.keep(Dtype::kI32, {route.shape.groups(), experts});
  route.kept = ctx.keep(Dtype::kI32, {experts});
  saved.x = x;
  saved.sums = plain() ? ctx.keep(Dtype::kF64, {kRouterSums}) : Tensor();
  saved.loss = batch.loss;
  if (!policy_.balances()) saved.loss.balance = 0;
  if (!policy_.reads_probabilities()) return;
  saved.probabilities = ctx.keep(exact, {tokens, experts});
  saved.log_sum_exp = ctx.keep(exact, {tokens});
}

const Route& Router::forward(Context& ctx, const Tensor& x, const RoutingBatch& batch, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "router", layer_);
  begin(ctx, x, batch, saved);
  const Arena::Mark mark(ctx.scratch);
  Route& route = saved.route;
  const int64_t tokens = x.rows();
  if (policy_.reads_probabilities()) {
    const Tensor expert = plain() ? flat(route.expert) : ctx.temporary(Dtype::kI32, {tokens});
    const Tensor gate = plain() ? flat(route.gate) : ctx.temporary(ctx.precision.exact, {tokens});
    ctx.backend.router_forward(Out(saved.probabilities), Out(saved.log_sum_exp), Out(expert), Out(gate), logits(ctx, x), batch.mask);
  }
  if (plain()) {
    if (ctx.routes != nullptr) record_or_replay(ctx, saved);
    const Tensor slot = ctx.temporary(Dtype::kI32, {tokens}), expert = flat(route.expert);
    ctx.backend.assign_slots(Out(route.requested), Out(route.kept), Out(slot), Out(flat(route.position)), Out(route.token), expert, route.shape,
                             {route.capacity, route.block});
    ctx.backend.router_losses(Out(saved.sums), saved.probabilities, saved.log_sum_exp, expert, route.requested, route.shape, saved.loss);
  } else {
    RoutingBatch told = batch;
    told.loss = saved.loss;
    policy_.forward(ctx, told, state_, {saved.probabilities, saved.log_sum_exp}, route, saved.counted.sums, saved.policy);
  }
  list(ctx, saved);
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

// What the exchange must know on the host: with blocks of fixed size nothing that the device would tell.
void Router::list(Context& ctx, Saved& saved) const {
  Route& route = saved.route;
  const size_t experts = static_cast<size_t>(route.shape.experts);
  if (route.block > 0) {
    route.listed.assign(experts, static_cast<int32_t>(route.block));
  } else {
    route.listed.resize(experts);
    ctx.backend.copy_to_host(route.kept, route.listed.data());
  }
  route.entries = std::accumulate(route.listed.begin(), route.listed.end(), int64_t{0});
  saved.unread = &ctx.backend;
  if (plain()) return;
  saved.statistics();
  RouterStatistics& counted = saved.counted;
  counted.tokens = tokens_of(saved.policy.decision);
  if (options_.router != RouterKind::kExpertChoice) return;
  counted.asked = counted.tokens;
  counted.dropped = tokens_without_entry(saved.policy.decision);
}

const RouterStatistics& Router::Saved::statistics() const {
  if (unread == nullptr) return counted;
  const size_t experts = static_cast<size_t>(route.shape.experts);
  if (sums.exists()) unread->copy_to_host(sums, counted.sums.data());
  if (route.block > 0) {
    read.resize(experts);
    unread->copy_to_host(route.kept, read.data());
  }
  const std::vector<int32_t>& kept = route.block > 0 ? read : route.listed;  // list() has brought it
  counted.kept.assign(kept.begin(), kept.end());
  read.resize(static_cast<size_t>(route.requested.elements()));
  unread->copy_to_host(route.requested, read.data());
  counted.requested.assign(experts, 0);
  for (size_t i = 0; i < read.size(); ++i) counted.requested[i % experts] += read[i];
  counted.asked = std::accumulate(counted.requested.begin(), counted.requested.end(), int64_t{0});
  counted.tokens = counted.asked;
  counted.dropped = counted.asked - std::accumulate(counted.kept.begin(), counted.kept.end(), int64_t{0});
  unread = nullptr;
  return counted;
}

void Router::backward(Context& ctx, const Tensor& dgate, const Saved& saved, Gradients& grads, Accumulate dx) const {
  if (!policy_.reads_probabilities()) return;
  const Span span(ctx.trace, SpanKind::kCompute, "router backward", layer_);
  const Dtype exact = ctx.precision.exact;
  const Route& route = saved.route;
  const Arena::Mark mark(ctx.scratch);
  const Tensor dlogits = ctx.temporary(exact, {route.shape.tokens, route.shape.experts});
  if (plain()) {
    ctx.backend.router_backward(Out(dlogits), flat(dgate), saved.probabilities, saved.log_sum_exp, flat(route.expert), route.requested, route.shape,
                                saved.loss);
  } else {
    policy_.backward(ctx, dgate, {saved.probabilities, saved.log_sum_exp}, saved.loss, saved.policy, Out(dlogits));
  }
  // The input's copy is made again rather than kept.
  const OuterProduct outer{.dy = dlogits, .x = input_copy(ctx, saved.x), .dw = grads.target(weight_)};
  ctx.backend.multiply_outer({&outer, 1});
  grads.done(weight_);
  input_backward(ctx, dlogits, saved.x, dx);
}

// Adds to dx what the logits ask of x, through the exploration of the forward.
void Router::input_backward(Context& ctx, const Tensor& dlogits, const Tensor& x, Accumulate dx) const {
  const PackedMatrix matrix = weight(ctx, Side::kBackward);
  const double epsilon = strength(ctx, Exploration::kInputJitter), rate = strength(ctx, Exploration::kInputDropout);
  if (epsilon == 0 && rate == 0) {
    const Product product = product_of(dlogits, matrix, dx);
    ctx.backend.multiply({&product, 1});
    return;
  }
  const Tensor dcopy = ctx.temporary(ctx.precision.exact, x.shape());
  const Product product = product_of(dlogits, matrix, Out(dcopy));
  ctx.backend.multiply({&product, 1});
  if (rate > 0) ctx.backend.dropout(Out(dcopy), dcopy, {rate, ctx.random(Purpose::kRouterDropout, layer_)});
  ctx.backend.jitter(dx, dcopy, epsilon, ctx.random(Purpose::kJitter, layer_));
}

}  // namespace switchyard
