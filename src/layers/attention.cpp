#include "src/layers/attention.h"

#include <cmath>

#include "src/layers/initializers.h"

namespace switchyard {

AttentionLayer AttentionLayer::make(const std::string& name, const Options& options, int layer) {
  AttentionLayer attention;
  attention.options = options;
  attention.layer = layer;
  const int64_t inner = attention.inner();
  const double fan_in = static_cast<double>(options.width);
  Initializer qkv = normal(options.deviation > 0 ? options.deviation : 1 / std::sqrt(fan_in));
  if (!options.scale_scores && options.deviation == 0) {
    qkv.first_rows = inner;
    qkv.first_rows_deviation = 1 / std::sqrt(fan_in * static_cast<double>(options.head_width));
  }
  attention.qkv = LinearLayer::make(name + ".qkv", 3 * inner, options.width, options.bias, qkv);
  attention.output = LinearLayer::make(name + ".output", options.width, inner, options.bias, normal(1 / std::sqrt(static_cast<double>(inner))));
  return attention;
}

AttentionShape AttentionLayer::shape(int64_t batch, int64_t queries, int64_t keys, int64_t first_position) const {
  return {.batch = batch,
          .queries = queries,
          .keys = keys,
          .key_stride = keys,
          .heads = options.heads,
          .width = options.head_width,
          .first_position = first_position,
          .causal = options.causal,
          .scale = options.scale_scores ? 1 / std::sqrt(static_cast<double>(options.head_width)) : 1};
}

AttentionInputs AttentionLayer::inputs(const Tensor& rows, const AttentionPlan& plan) const {
  const int64_t n = inner();
  const Tensor mask = plan.mask.exists() ? plan.mask.reshape({plan.batch, plan.length}) : Tensor{};
  return {.q = rows.slice_columns(0, n), .k = rows.slice_columns(n, n), .v = rows.slice_columns(2 * n, n), .mask = mask, .bias = plan.bias};
}

Tensor AttentionLayer::forward(Context& ctx, const Tensor& x, const AttentionPlan& plan, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "attention", layer);
  check(x.rows() == plan.batch * plan.length, "AttentionLayer::forward: rows are not batch * length");
  saved.plan = plan;
  saved.qkv = ctx.keep(ctx.precision.activation, {x.rows(), 3 * inner()});
  saved.o = ctx.keep(ctx.precision.activation, {x.rows(), inner()});
  saved.log_sum_exp = ctx.keep(ctx.precision.exact, {plan.batch, options.heads, plan.length});
  const Tensor y = ctx.temporary(ctx.precision.activation, x.shape());

  qkv.forward(ctx, x, saved.qkv_in, Out(saved.qkv));
  ctx.backend.attention_forward(Out(saved.o), Out(saved.log_sum_exp), inputs(saved.qkv, plan), shape(plan.batch, plan.length, plan.length, 0));
  output.forward(ctx, saved.o, saved.output_in, Out(y));
  return y;
}

Tensor AttentionLayer::backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads, Target dbias) const {
  const Span span(ctx.trace, SpanKind::kCompute, "attention.backward", layer);
  const AttentionPlan& plan = saved.plan;
  const Tensor dx = ctx.temporary(ctx.precision.activation, dy.shape());
  const Arena::Mark mark(ctx.scratch);
  const Tensor d_o = ctx.temporary(ctx.precision.activation, saved.o.shape());
  const Tensor dqkv = ctx.temporary(ctx.precision.activation, saved.qkv.shape());

  output.backward(ctx, dy, saved.output_in, grads, Out(d_o));
  const int64_t n = inner();
  ctx.backend.attention_backward(Out(dqkv.slice_columns(0, n)), Out(dqkv.slice_columns(n, n)), Out(dqkv.slice_columns(2 * n, n)), dbias, d_o, saved.o,
                                 saved.log_sum_exp, inputs(saved.qkv, plan), shape(plan.batch, plan.length, plan.length, 0));
  qkv.backward(ctx, dqkv, saved.qkv_in, grads, Out(dx));
  return dx;
}

Tensor AttentionLayer::forward_cached(Context& ctx, const Tensor& x, KeyValueCache& cache, const Tensor& bias) const {
  const Span span(ctx.trace, SpanKind::kCompute, "attention.cached", layer);
  const int64_t n = cache.batch == 0 ? 0 : x.rows() / cache.batch;
  check(options.causal && n * cache.batch == x.rows(), "AttentionLayer::forward_cached: not causal, or rows are not a multiple of the cache's sequences");
  check(cache.length + n <= cache.capacity, "AttentionLayer::forward_cached: the cache is full");
  const Tensor y = ctx.temporary(ctx.precision.activation, x.shape());
  const Arena::Mark mark(ctx.scratch);
  const Tensor o = ctx.temporary(ctx.precision.activation, {x.rows(), inner()});
  const Tensor log_sum_exp = ctx.temporary(ctx.precision.exact, {1, options.heads, n});

  LinearLayer::Saved unused;
  for (int64_t b = 0; b < cache.batch; ++b) {
    const Tensor sequence = cache.qkv.slice_rows(b * cache.capacity, cache.length + n);
    qkv.forward(ctx, x.slice_rows(b * n, n), unused, Out(sequence.slice_rows(cache.length, n)));
    AttentionInputs in = inputs(sequence, {});
    in.q = in.q.slice_rows(cache.length, n);
    in.bias = bias;
    ctx.backend.attention_forward(Out(o.slice_rows(b * n, n)), Out(log_sum_exp), in, shape(1, n, cache.length + n, cache.length));
  }
  output.forward(ctx, o, unused, Out(y));
  cache.length += n;
  return y;
}

void AttentionLayer::visit(const ParameterVisitor& visitor) {
  qkv.visit(visitor);
  output.visit(visitor);
}

}  // namespace switchyard
