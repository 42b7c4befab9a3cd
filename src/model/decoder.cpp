#include "src/model/decoder.h"

#include <cmath>

namespace switchyard {

Decoder::Decoder(const ModelOptions& options, Communicator& communicator, const Grid& grid) : options_(options) {
  embedding_ =
      EmbeddingLayer::make("decoder.embedding", options.vocabulary, options.sequence_length, options.width, options.embedding_deviation, options.dropout);
  blocks_.reserve(static_cast<size_t>(options.blocks));
  for (int index = 0; index < options.blocks; ++index) {
    const int moe_layer = is_moe_block(options.moe, index) ? moe_layers_++ : -1;
    blocks_.emplace_back("decoder", index, moe_layer, options, communicator, grid);
  }
  norm_ = NormLayer::make("decoder.norm", options.width, options.norm);
  loss_ = {.head_scale = options.scale_tied_head ? 1 / std::sqrt(static_cast<double>(options.width)) : 1, .z = options.z_loss};
}

Tensor Decoder::forward(Context& ctx, const MicroBatch& batch, const Counts& counts, Saved& saved) const {
  saved.blocks.resize(blocks_.size());
  const AttentionPlan plan{.batch = batch.sequences, .length = batch.sequence_length, .mask = batch.mask, .bias = {}};
  const RoutingBatch routing{.mask = batch.mask,
                             .tokens = batch.tokens,
                             .sequence_length = batch.sequence_length,
                             .loss = router_loss(options_.moe, counts.groups, counts.tokens, moe_layers_)};
  Tensor x = embedding_.forward(ctx, batch.tokens, batch.sequence_length, saved.embedding);
  for (size_t i = 0; i < blocks_.size(); ++i) x = blocks_[i].forward(ctx, x, plan, routing, saved.blocks[i]);
  return norm_.forward(ctx, x, saved.norm);
}

Tensor Decoder::loss_backward(Context& ctx, const Tensor& h, const MicroBatch& batch, const Counts& counts, Saved& saved, Gradients& grads) const {
  const double scale = counts.targets == 0 ? 0 : 1 / static_cast<double>(counts.targets);
  return loss_.backward(ctx, h, batch.targets, embedding_.token, scale, saved.loss, grads);
}

void Decoder::backward(Context& ctx, const Tensor& dh, const Saved& saved, Gradients& grads) const {
  const Arena::Mark mark(ctx.scratch);
  const Tensor dx = ctx.temporary(ctx.precision.activation, dh.shape());  // of the residual stream, all the way down
  norm_.backward(ctx, dh, saved.norm, grads, Out(dx));
  for (size_t i = blocks_.size(); i-- > 0;) blocks_[i].backward(ctx, dx, saved.blocks[i], grads);
  embedding_.backward(ctx, dx, saved.embedding, grads);
}

MicroBatchLoss Decoder::losses(Context& ctx, const Saved& saved) const {
  MicroBatchLoss result;
  ctx.backend.copy_to_host(saved.loss.loss, &result.cross_entropy);
  for_each_moe(saved, [&](int, const MoeLayer::Saved& moe) {
    result.balance += moe.statistics().sums[0];
    result.router_z += moe.statistics().sums[1];
  });
  return result;
}

void Decoder::evaluate(Context& ctx, const Tensor& h, const MicroBatch& batch, Out loss, Out correct) const {
  loss_.evaluate(ctx, h, batch.targets, embedding_.token, loss, correct);
}

Decoder::Cache Decoder::make_cache(Context& ctx, int64_t batch, int64_t capacity) const {
  Cache cache;
  cache.working = std::vector<Block::Saved>(blocks_.size());
  for (const Block& block : blocks_) {
    const Tensor qkv = ctx.keep(ctx.precision.activation, {batch * capacity, block.cache_columns()});
    cache.attention.push_back({.qkv = qkv, .batch = batch, .capacity = capacity});
  }
  return cache;
}

Tensor Decoder::forward_cached(Context& ctx, const Tensor& tokens, Cache& cache) const {
  check(!ctx.training && !cache.attention.empty(), "Decoder::forward_cached: training, or a cache that make_cache did not make");
  const int64_t n = tokens.rows() / cache.attention[0].batch;
  const RoutingBatch routing{.tokens = tokens, .sequence_length = n};
  EmbeddingLayer::Saved embedding;
  NormLayer::Saved norm;
  Tensor x = embedding_.forward(ctx, tokens, n, embedding, cache.length);
  for (size_t i = 0; i < blocks_.size(); ++i) x = blocks_[i].forward_cached(ctx, x, cache.attention[i], routing, cache.working[i]);
  cache.length += n;
  return norm_.forward(ctx, x, norm);
}

void Decoder::for_each_moe(const Saved& saved, const std::function<void(int, const MoeLayer::Saved&)>& visitor) const {
  int layer = 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].is_moe()) visitor(layer++, saved.blocks[i].moe);
  }
}

void Decoder::visit(const ParameterVisitor& visitor) {
  embedding_.visit(visitor);
  for (Block& block : blocks_) block.visit(visitor);
  norm_.visit(visitor);
}

}  // namespace switchyard
