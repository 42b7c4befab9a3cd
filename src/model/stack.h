// Stack: from tokens to vectors. Embedding, blocks, and with NormPlace::kPre a norm behind the last one. The body of every
// model; what is made of the vectors is the model's head.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "src/data/batch.h"
#include "src/layers/embedding.h"
#include "src/layers/relative_bias.h"
#include "src/model/block.h"
#include "src/model/options.h"

namespace switchyard {

class Stack {
 public:
  // Kept from step to step, and neither copied nor moved in use (MoeLayer::Saved). Tensors are in ctx.saved.
  struct Saved {
    EmbeddingLayer::Saved embedding;
    RelativeBiasLayer::Saved relative_bias;
    std::vector<Block::Saved> blocks;
    NormLayer::Saved norm;
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

  // Names begin with `name`. tied_head: a head reads the token table, too, and its use comes first in backward. The
  // communicator and the grid outlive the stack.
  Stack(const std::string& name, const ModelOptions& options, bool tied_head, Communicator& communicator, const Grid& grid);

  // -> h [T, D] activation, in ctx.saved. ctx.key names the batch; `counts` are the whole step's. Collective; T = 0 on an
  // empty lane.
  Tensor forward(Context& ctx, const MicroBatch& batch, const Counts& counts, Saved& saved) const;
  // dh [T, D] activation. Collective. Dense parameters are closed in the reverse of visit's order, on every rank alike.
  void backward(Context& ctx, const Tensor& dh, const Saved& saved, Gradients& grads) const;

  // Room for `batch` sequences of at most `capacity` tokens.
  Cache make_cache(Context& ctx, int64_t batch, int64_t capacity) const;
  // tokens [B * n] I32: the next n tokens of each sequence -> h [B * n, D] activation, in ctx.saved. Causal, and not for
  // training. Equal to forward over the whole sequences where no token is dropped.
  Tensor forward_cached(Context& ctx, const Tensor& tokens, Cache& cache) const;

  // MoE layers from the first block to the last: (number of the MoE layer, what it saved in the last forward).
  void for_each_moe(const Saved& saved, const std::function<void(int, const MoeLayer::Saved&)>& visitor) const;
  int moe_layers() const { return moe_layers_; }
  const ModelOptions& options() const { return options_; }
  const Parameter& token_table() const { return embedding_.token; }  // [N, D]

  void visit(const ParameterVisitor& visitor);
  // What routers remember, from the first MoE layer to the last.
  void visit_routers(const RouterStateVisitor& visitor) {
    for (Block& block : blocks_) block.visit_router(visitor);
  }

 private:
  ModelOptions options_;
  EmbeddingLayer embedding_;
  std::optional<RelativeBiasLayer> relative_bias_;  // in place of learned positions
  std::vector<Block> blocks_;
  std::optional<NormLayer> norm_;
  int moe_layers_ = 0;
};

}  // namespace switchyard
