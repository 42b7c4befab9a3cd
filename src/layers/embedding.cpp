#include "src/layers/embedding.h"

#include "src/layers/initializers.h"

namespace switchyard {

EmbeddingLayer EmbeddingLayer::make(const std::string& name, const Options& options) {
  EmbeddingLayer layer;
  layer.token.name = name + ".token.weight";
  layer.token.shape = {options.vocabulary, options.width};
  layer.token.initializer = normal(options.deviation);
  layer.token.uses = options.tied_head ? 2 : 1;
  layer.token.forms = {.plain_weight = true, .packed_forward = options.tied_head, .packed_backward = options.tied_head};
  layer.position.name = name + ".position.weight";
  layer.position.shape = {options.positions, options.width};
  layer.position.initializer = normal(options.deviation);
  layer.position.forms = {.plain_weight = true};
  layer.dropout = {.rate = options.dropout, .purpose = Purpose::kEmbeddingDropout};
  return layer;
}

Tensor EmbeddingLayer::forward(Context& ctx, const Tensor& tokens, int64_t sequence, Saved& saved, int64_t first_position) const {
  const bool inside = first_position >= 0 && first_position + sequence <= position.rows();
  check(inside || !has_positions(), "EmbeddingLayer::forward: a position outside the table");
  saved = {.tokens = tokens, .sequence = sequence};
  const Tensor x = ctx.keep(ctx.precision.activation, {tokens.rows(), token.columns()});
  {
    const Span span(ctx.trace, SpanKind::kCompute, "embedding");
    ctx.backend.embed(Out(x), token.plain, position.plain, tokens, sequence, first_position);
  }
  dropout.forward(ctx, x);
  return x;
}

void EmbeddingLayer::backward(Context& ctx, const Tensor& dx, const Saved& saved, Gradients& grads) const {
  const Arena::Mark mark(ctx.scratch);
  const Tensor dsum = dropout.backward(ctx, dx);
  const Span span(ctx.trace, SpanKind::kCompute, "embedding.backward");
  const Target dposition = has_positions() ? grads.target(position) : Target{};
  const Target dtoken = grads.target(token);
  ctx.backend.embed_backward(dtoken, dposition, dsum, saved.tokens, saved.sequence);
  if (has_positions()) grads.done(position);
  grads.done(token);
}

void EmbeddingLayer::visit(const ParameterVisitor& visitor) {
  visitor(token);
  if (has_positions()) visitor(position);
}

}  // namespace switchyard
