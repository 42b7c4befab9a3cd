// AttentionLayer: multi-head self-attention. One product makes queries, keys and values: the weight [3 H K, D] holds
// the rows of W_q, then W_k, then W_v, each ordered by head.
#pragma once

#include <string>

#include "src/layers/linear.h"

namespace switchyard {

// The queries, keys and values of the tokens seen so far, so that a new token costs one row. Made for one layer; lives
// in memory of the caller.
struct KeyValueCache {
  Tensor qkv;  // [B * capacity, 3 H K] activation; sequence b has rows b * capacity ..
  int64_t batch = 0, capacity = 0;
  int64_t length = 0;  // tokens seen, the same for every sequence
};

// How the rows of x lie, and what may be seen.
struct AttentionPlan {
  int64_t batch = 0, length = 0;  // rows are b * length + i
  Tensor mask;                    // [T] I32, 0 where padding: no query sees that key; or none
  Tensor bias;                    // [H, length, length] exact, added to the scores; or none
};

struct AttentionLayer {
  struct Options {
    int64_t width = 0, heads = 0, head_width = 0;  // D, H, K
    bool causal = true;
    bool bias = false;
    bool scale_scores = false;  // scores / sqrt(K); else the factor is in W_q's initialisation (switch.md 2.3)
    double deviation = 0;       // initial, of W_q, W_k and W_v alike; 0: D^-1/2, with the factor above
  };

  Options options;
  LinearLayer qkv;     // [3 H K, D]
  LinearLayer output;  // [D, H K]
  int layer = 0;       // number of the block, for the trace

  struct Saved {
    LinearLayer::Saved qkv_in, output_in;
    Tensor qkv;          // [T, 3 H K] activation
    Tensor o;            // [T, H K] activation
    Tensor log_sum_exp;  // [B, H, length] exact
    AttentionPlan plan;
  };

  // Names are "<name>.qkv.weight" and "<name>.output.weight" (and .bias). Initialisers: switch.md 2.8.
  static AttentionLayer make(const std::string& name, const Options& options, int layer);

  // x [T, D] activation, which must stay until backward -> y [T, D] activation, in ctx.scratch.
  Tensor forward(Context& ctx, const Tensor& x, const AttentionPlan& plan, Saved& saved) const;
  // dy [T, D] activation -> dx [T, D] activation, in ctx.scratch. dbias [H, length, length] exact: the gradient of
  // plan.bias, or none.
  Tensor backward(Context& ctx, const Tensor& dy, const Saved& saved, Gradients& grads, Target dbias = {}) const;

  // x [B * n, D]: the next n tokens of each sequence -> y [B * n, D], in ctx.scratch. bias [H, n, cache.length + n] exact,
  // added to the scores of the new queries, or none. Causal layers only. Throws InternalError if the cache has no room.
  Tensor forward_cached(Context& ctx, const Tensor& x, KeyValueCache& cache, const Tensor& bias = {}) const;
  // Columns of KeyValueCache::qkv.
  int64_t cache_columns() const { return 3 * inner(); }

  void visit(const ParameterVisitor& visitor);

 private:
  int64_t inner() const { return options.heads * options.head_width; }
  AttentionShape shape(int64_t batch, int64_t queries, int64_t keys, int64_t first_position) const;
  AttentionInputs inputs(const Tensor& qkv_rows, const AttentionPlan& plan) const;
};

}  // namespace switchyard
