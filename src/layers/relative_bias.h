// RelativeBiasLayer: T5's relative position bias (switch.md 2.3, 2.4). A table of one number for each head and bucket of
// distances; every attention score gets the number of its distance. One table serves all blocks of a stack:
//
//   forward   bias = relative.forward(ctx, S, S, 0, saved), once, before the blocks; AttentionPlan::bias = bias
//   backward  one dbias [H, S, S] exact for the stack: the block that comes first in backward overwrites it (Out), the
//             others add to it (Accumulate); then relative.backward(ctx, dbias, saved, grads), once, after the blocks
//   cached    forward(ctx, n, length + n, length, saved) is the bias of n new queries (AttentionLayer::forward_cached)
//
// So the table has one use a micro-batch, and its gradient is closed where `visit` shows it: before the blocks.
#pragma once

#include <string>
#include <vector>

#include "src/layers/context.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"

namespace switchyard {

// Buckets of the distances n >= 0 of one direction: bucket b holds those from result[b] up to the next one's first. The
// first half holds one distance each, the second half m = count / 2 and more, logarithmically up to `distance`, with the
// last bucket open: b = m + floor(ln(n / m) / ln(distance / m) * (count - m)). Computed in integers. Demands
// 2 <= count <= 256 and count / 2 < distance < 2^31.
std::vector<int64_t> relative_thresholds(int count, int64_t distance);

struct RelativeBiasLayer {
  int64_t heads = 0;  // H
  bool causal = true;
  std::vector<int64_t> thresholds;  // of one direction
  Parameter table;                  // [buckets, H]

  struct Saved {
    Tensor bucket;  // [queries + keys - 1] I32, by distance
  };

  // `buckets` in all. A causal layer gives all of them to keys before the query; another layer half of them, and the other
  // half to keys after it. Demands 2 <= buckets <= 256 if causal, else 4 <= buckets <= 512, and a distance above half of
  // one direction's buckets. The name is "<name>.weight".
  static RelativeBiasLayer make(const std::string& name, int64_t heads, int buckets, int64_t distance, bool causal);

  // Bucket of a key at position query + relative.
  int32_t bucket(int64_t relative) const;

  // Query i stands at first_position + i, key j at j -> bias [H, queries, keys] exact, in ctx.saved.
  Tensor forward(Context& ctx, int64_t queries, int64_t keys, int64_t first_position, Saved& saved) const;
  // dbias [H, queries, keys] exact: the sum over all blocks that read the bias.
  void backward(Context& ctx, const Tensor& dbias, const Saved& saved, Gradients& grads) const;

  void visit(const ParameterVisitor& visitor) { visitor(table); }
};

}  // namespace switchyard
