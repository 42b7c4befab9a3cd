#include "src/layers/embedding.h"

#include "src/layers/initializers.h"

namespace switchyard {

EmbeddingLayer EmbeddingLayer::make(const std::string& name, int64_t vocabulary, int64_t positions, int64_t width, double deviation, double dropout) {
  EmbeddingLayer layer;
  layer.token.name = name + ".token.weight";
  layer.token.shape = {vocabulary, width};
  layer.token.initializer = normal(deviation);
  layer.token.uses = 2;
  layer.token.forms = {.plain_weight = true, .packed_forward = true, .packed_backward = true};
  layer.position.name = name + ".position.weight";
  layer.position.shape = {positions, width};
  layer.position.initializer = normal(deviation);
  layer.position.forms = {.plain_weight = true};
  layer.dropout = {.rate = dropout, .purpose = Purpose::kEmbeddingDropout};
  return layer;
}

Tensor EmbeddingLayer::forward(Context& ctx, const Tensor& tokens, int64_t sequence, Saved& saved, int64_t first_position) const {
  check(first_position >= 0 && first_position + sequence <= position.rows(), "EmbeddingLayer::forward: a position outside the table");
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
  const Target dposition = grads.target(position);
  const Target dtoken = grads.target(token);
  ctx.backend.embed_backward(dtoken, dposition, dsum, saved.tokens, saved.sequence);
  grads.done(position);
  grads.done(token);
}

void EmbeddingLayer::visit(const ParameterVisitor& visitor) {
  visitor(token);
  visitor(position);
}

}  // namespace switchyard
