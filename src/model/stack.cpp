#include "src/model/stack.h"

namespace switchyard {

Stack::Stack(const std::string& name, const ModelOptions& options, bool tied_head, Communicator& communicator, const Grid& grid) : options_(options) {
  const bool relative = options.position == Position::kRelativeBias;
  embedding_ = EmbeddingLayer::make(name + ".embedding", {.vocabulary = options.vocabulary,
                                                          .positions = relative ? 0 : options.sequence_length,
                                                          .width = options.width,
                                                          .deviation = options.embedding_deviation,
                                                          .dropout = options.dropout,
                                                          .tied_head = tied_head});
  if (relative) {
    relative_bias_ = RelativeBiasLayer::make(name + ".relative_bias", options.heads, options.relative_buckets, options.relative_distance, options.causal());
  }
  blocks_.reserve(static_cast<size_t>(options.blocks));
  for (int index = 0; index < options.blocks; ++index) {
    const int moe_layer = is_moe_block(options.moe, index) ? moe_layers_++ : -1;
    blocks_.emplace_back(name, index, moe_layer, options, communicator, grid);
  }
  if (options.norm_place == NormPlace::kPre) norm_ = NormLayer::make(name + ".norm", options.width, options.norm);
}

Tensor Stack::forward(Context& ctx, const MicroBatch& batch, const Counts& counts, Saved& saved) const {
  saved.blocks.resize(blocks_.size());
  const int64_t length = batch.sequence_length;
  const Tensor mask = options_.sees_padding() ? Tensor{} : batch.mask;
  const RoutingBatch routing{
      .mask = mask, .tokens = batch.tokens, .sequence_length = length, .loss = router_loss(options_.moe, counts.groups, counts.tokens, moe_layers_)};
  AttentionPlan plan{.batch = batch.sequences, .length = length, .mask = mask, .bias = {}};
  if (relative_bias_) plan.bias = relative_bias_->forward(ctx, length, length, 0, saved.relative_bias);
  Tensor x = embedding_.forward(ctx, batch.tokens, length, saved.embedding);
  for (size_t i = 0; i < blocks_.size(); ++i) x = blocks_[i].forward(ctx, x, plan, routing, saved.blocks[i]);
  return norm_ ? norm_->forward(ctx, x, saved.norm) : x;
}

void Stack::backward(Context& ctx, const Tensor& dh, const Saved& saved, Gradients& grads) const {
  const Arena::Mark mark(ctx.scratch);
  const Tensor dx = norm_ ? ctx.temporary(ctx.precision.activation, dh.shape()) : dh;  // of the stream, all the way down
  if (norm_) norm_->backward(ctx, dh, saved.norm, grads, Out(dx));
  // One bias serves all blocks: the first of backward overwrites its gradient, the others add.
  const int64_t length = saved.embedding.sequence;
  Target dbias;
  if (relative_bias_) dbias = Out(ctx.temporary(ctx.precision.exact, {options_.heads, length, length}));
  for (size_t i = blocks_.size(); i-- > 0;) {
    blocks_[i].backward(ctx, dx, saved.blocks[i], grads, dbias);
    dbias.add = true;
  }
  if (relative_bias_) relative_bias_->backward(ctx, dbias.tensor, saved.relative_bias, grads);
  embedding_.backward(ctx, dx, saved.embedding, grads);
}

Stack::Cache Stack::make_cache(Context& ctx, int64_t batch, int64_t capacity) const {
  Cache cache;
  cache.working = std::vector<Block::Saved>(blocks_.size());
  for (const Block& block : blocks_) {
    const Tensor qkv = ctx.keep(ctx.precision.activation, {batch * capacity, block.cache_columns()});
    cache.attention.push_back({.qkv = qkv, .batch = batch, .capacity = capacity});
  }
  return cache;
}

Tensor Stack::forward_cached(Context& ctx, const Tensor& tokens, Cache& cache) const {
  check(!ctx.training && !cache.attention.empty(), "Stack::forward_cached: training, or a cache that make_cache did not make");
  const int64_t n = tokens.rows() / cache.attention[0].batch;
  const RoutingBatch routing{.tokens = tokens, .sequence_length = n};
  EmbeddingLayer::Saved embedding;
  RelativeBiasLayer::Saved relative_bias;
  NormLayer::Saved norm;
  Tensor bias;
  if (relative_bias_) bias = relative_bias_->forward(ctx, n, cache.length + n, cache.length, relative_bias);
  Tensor x = embedding_.forward(ctx, tokens, n, embedding, cache.length);
  for (size_t i = 0; i < blocks_.size(); ++i) x = blocks_[i].forward_cached(ctx, x, cache.attention[i], bias, routing, cache.working[i]);
  cache.length += n;
  return norm_ ? norm_->forward(ctx, x, norm) : x;
}

void Stack::for_each_moe(const Saved& saved, const std::function<void(int, const MoeLayer::Saved&)>& visitor) const {
  int layer = 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].is_moe()) visitor(layer++, saved.blocks[i].moe);
  }
}

void Stack::visit(const ParameterVisitor& visitor) {
  embedding_.visit(visitor);
  if (relative_bias_) relative_bias_->visit(visitor);
  for (Block& block : blocks_) block.visit(visitor);
  if (norm_) norm_->visit(visitor);
}

}  // namespace switchyard
