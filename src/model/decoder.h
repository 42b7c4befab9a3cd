// Decoder: a decoder-only language model as a list of layers. Embedding, blocks, final norm; its loss reads the
// embedding's token table a second time (tied head).
#pragma once

#include <functional>
#include <vector>

#include "src/data/batch.h"
#include "src/layers/embedding.h"
#include "src/layers/loss.h"
#include "src/model/block.h"
#include "src/model/options.h"

namespace switchyard {

// What one micro-batch adds to the loss of its step (DESIGN 6): each part is already weighted.
struct MicroBatchLoss {
  double cross_entropy = 0;  // with the vocabulary's z term
  double balance = 0;        // sum over MoE layers
  double router_z = 0;       // sum over MoE layers
  double total() const { return cross_entropy + balance + router_z; }
};

class Decoder {
 public:
  // Kept from step to step, and neither copied nor moved in use (MoeLayer::Saved). Tensors are in ctx.saved.
  struct Saved {
    EmbeddingLayer::Saved embedding;
    std::vector<Block::Saved> blocks;
    NormLayer::Saved norm;
    LossLayer::Saved loss;
  };

  // What generation remembers of the tokens so far. Made by make_cache; memory in ctx.saved.
  struct Cache {
    std::vector<KeyValueCache> attention;  // per block
    std::vector<Block::Saved> working;     // per block
    int64_t length = 0;                    // tokens seen of each sequence

    // Forgets them; the memory stays.
    void clear() {
      length = 0;
      for (KeyValueCache& cache : attention) cache.length = 0;
    }
  };

  // Parameters have no memory until a store attaches it. The communicator and the grid outlive the model.
  Decoder(const ModelOptions& options, Communicator& communicator, const Grid& grid);
  Decoder(const Decoder&) = delete;  // stores know parameters by address
  Decoder& operator=(const Decoder&) = delete;

  // -> h [T, D] activation, after the final norm, in ctx.saved. ctx.key names the batch; `counts` are the whole step's.
  // Collective; T = 0 on an empty lane.
  Tensor forward(Context& ctx, const MicroBatch& batch, const Counts& counts, Saved& saved) const;
  // Cross-entropy and its gradient dh [T, D] activation, in ctx.scratch. Between forward and backward.
  Tensor loss_backward(Context& ctx, const Tensor& h, const MicroBatch& batch, const Counts& counts, Saved& saved, Gradients& grads) const;
  // dh [T, D] activation. Collective. Dense parameters are closed in the reverse of visit's order, on every rank alike; the
  // token table, first used by loss_backward, is the last.
  void backward(Context& ctx, const Tensor& dh, const Saved& saved, Gradients& grads) const;
  // After loss_backward. Waits for the device.
  MicroBatchLoss losses(Context& ctx, const Saved& saved) const;

  // Per row: loss [T] exact, nats; correct [T] I32 (LossLayer::evaluate).
  void evaluate(Context& ctx, const Tensor& h, const MicroBatch& batch, Out loss, Out correct) const;

  // Room for `batch` sequences of at most `capacity` tokens.
  Cache make_cache(Context& ctx, int64_t batch, int64_t capacity) const;
  // tokens [B * n] I32: the next n tokens of each sequence -> h [B * n, D] activation, in ctx.saved. Not for training.
  // Equal to forward over the whole sequences where no token is dropped.
  Tensor forward_cached(Context& ctx, const Tensor& tokens, Cache& cache) const;
  // h [n, D] activation -> logits [n, N] exact, in ctx.scratch.
  Tensor logits(Context& ctx, const Tensor& h) const { return loss_.logits(ctx, h, embedding_.token); }

  // MoE layers from the first block to the last: (number of the MoE layer, what it saved in the last forward).
  void for_each_moe(const Saved& saved, const std::function<void(int, const MoeLayer::Saved&)>& visitor) const;
  int moe_layers() const { return moe_layers_; }
  const ModelOptions& options() const { return options_; }

  void visit(const ParameterVisitor& visitor);

 private:
  ModelOptions options_;
  EmbeddingLayer embedding_;
  std::vector<Block> blocks_;
  NormLayer norm_;
  LossLayer loss_;
  int moe_layers_ = 0;
};

// Whether block `index`, counted from 0, is a MoE block.
inline bool is_moe_block(const MoeOptions& options, int64_t index) { return options.experts > 1 && (index + 1) % options.every == 0; }

}  // namespace switchyard
