#include "src/model/accounting.h"

#include <algorithm>

#include "src/base/checked.h"
#include "src/layers/loss.h"
#include "src/moe/exchange.h"

namespace switchyard {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kProgramBytes = 44 * kMiB;  // code, libraries, their buffers and the kernels'; measured
constexpr int64_t kMpiBytes = 20 * kMiB;      // what MPI adds where there are several ranks; measured
constexpr int64_t kBucketBytes = 32 * kMiB;   // ParameterStore::Options::bucket_bytes

// Sizes of one model that the formulas below share, in elements.
struct Sizes {
  explicit Sizes(const ModelOptions& model) : m(model) {
    moe_blocks = m.moe.experts > 1 ? m.blocks / m.moe.every : 0;
    dense_blocks = m.blocks - moe_blocks;
    inner = m.heads * m.head_width;
    norm = m.norm.kind == NormKind::kLayerNorm ? 2 * m.width : m.width;
    tables = (m.vocabulary + m.sequence_length) * m.width;
    attention_matrices = 4 * m.width * inner;
    attention = attention_matrices + (m.bias ? 3 * inner + m.width : 0);
    feed_forward_matrices = 2 * m.width * m.feed_forward;
    feed_forward = feed_forward_matrices + (m.bias ? m.feed_forward + m.width : 0);
    router = m.moe.experts * m.width;
  }
  int64_t norms() const { return (2 * m.blocks + 1) * norm; }
  // Parameters that every rank has.
  int64_t dense() const { return tables + norms() + m.blocks * attention + dense_blocks * feed_forward + moe_blocks * router; }

  const ModelOptions& m;
  int64_t moe_blocks, dense_blocks;
  int64_t inner;                                // H * K
  int64_t norm;                                 // of one norm
  int64_t tables;                               // tokens and positions
  int64_t attention_matrices, attention;        // of one block; with biases
  int64_t feed_forward_matrices, feed_forward;  // of one layer or expert; with biases
  int64_t router;                               // of one MoE layer
};

// The memory of one rank. Letters as in the design: T tokens of a micro-batch, D, F, E, H, N; a, w, x bytes of an
// activation, a weight and an exact number.
struct RankMemory {
  RankMemory(const ModelOptions& model, const MemoryShape& memory_shape)
      : size(model),
        shape(memory_shape),
        P(shape.ranks),
        T(shape.sequences * model.sequence_length),
        D(model.width),
        F(model.feed_forward),
        E(model.moe.experts),
        a(size_of(shape.precision.activation)),
        w(size_of(shape.precision.weight)),
        x(size_of(shape.precision.exact)),
        hosted(size.moe_blocks > 0 ? divide_up(E, P) : 0),
        // T rows from each of P lanes, spread over P ranks; half of a block's last multiple is padding.
        rows(size.moe_blocks > 0 ? roomy(T * hosted * P / E + hosted * P * kRowMultiple / 2) : 0) {}

  int64_t owned() const { return divide_up(size.dense(), P) + size.moe_blocks * hosted * size.feed_forward; }
  int64_t bucket() const { return std::min(kBucketBytes, size.dense() * x); }

  // One buffer of all dense gradients for each lane of this rank that is being summed, and one for the micro-batch at
  // hand; a single rank sums its first lane where it is owned. Then two inboxes of a bucket's own range.
  int64_t lane_gradients() const {
    const int64_t rounds = divide_up(shape.lanes, P);
    int64_t buffers = P > 1 || shape.lanes > 1 ? 1 : 0;
    if (shape.accumulate > 1) buffers = 1 + (P > 1 ? rounds : rounds - 1);
    return buffers * size.dense() * x + 2 * bucket() / P * (P - 1);
  }

  // Two layouts of every matrix, one for each of its products; the router's are exact.
  int64_t packed() const {
    const int64_t matrices =
        size.m.vocabulary * D + size.m.blocks * size.attention_matrices + (size.dense_blocks + size.moe_blocks * hosted) * size.feed_forward_matrices;
    return 2 * (matrices * w + size.moe_blocks * size.router * x);
  }
  // One rank reads its masters in place where they have the dtype of weights, and tables of its own where not. Several
  // ranks gather all that is dense, through a staging buffer.
  int64_t plain() const {
    if (P == 1) return w == x ? 0 : size.tables * w;
    return size.dense() * w + std::min(kBucketBytes / x * w, size.dense() * w) / P;
  }

  int64_t saved() const {
    const int64_t stream = T * D * a, norm = stream + 2 * T * x;
    const int64_t attention = 4 * T * size.inner * a + T * size.m.heads * x;
    const int64_t routing = 4 * T * size_of(Dtype::kI32) + T * (E + 2) * x;
    const int64_t moe = routing + rows * (D + F) * a + stream;
    return stream + norm + size.m.blocks * (2 * norm + attention + 2 * stream) + size.dense_blocks * T * F * a + size.moe_blocks * moe;
  }

  // The largest of what one layer needs at a time, above the gradients of the loss and of the residual stream.
  int64_t scratch() const {
    const int64_t stream = T * D * a, chunk = std::min<int64_t>(LossLayer::kRows, T);
    const int64_t dropped = size.m.dropout > 0 ? stream : 0;
    int64_t largest = chunk * size.m.vocabulary * a + (size.m.scale_tied_head ? chunk * D * (a + x) : 0);
    largest = std::max(largest, stream + dropped + stream + 4 * T * size.inner * a);
    if (size.dense_blocks > 0) largest = std::max(largest, stream + dropped + stream + T * F * a);
    if (size.moe_blocks > 0) {
      const int64_t sum = a == x ? 0 : T * D * x;
      const int64_t in_experts = rows * (D + F) * a;
      const int64_t in_router = T * E * x + rows * D * a + stream + 2 * T * D * x;
      largest = std::max(largest, 2 * stream + dropped + sum + std::max(in_experts, in_router));
    }
    return stream + largest;
  }

  // Pairs of outboxes, as far as they are filled: rows on their way, and buckets. Peers' pages that this rank pulls from
  // count as its own, too.
  int64_t outboxes() const {
    const int64_t exchange = size.moe_blocks > 0 ? 2 * std::max(rows, T) * D * a : 0;
    return P == 1 ? exchange : 2 * exchange + 4 * bucket() / P * (P - 1);
  }

  Sizes size;
  const MemoryShape& shape;
  int64_t P, T, D, F, E, a, w, x;
  int64_t hosted;  // experts of one MoE layer on this rank
  int64_t rows;    // that one MoE layer takes memory for at its experts, all lanes in flight
};

}  // namespace

std::vector<LayerCost> layer_costs(const ModelOptions& m) {
  const Sizes size(m);
  const double keys = static_cast<double>(m.sequence_length + 1) / 2;
  const auto products = [](int64_t matrices) { return 2 * static_cast<double>(matrices); };
  const auto times = [](int64_t count, double flops) { return static_cast<double>(count) * flops; };
  std::vector<LayerCost> layers;
  layers.push_back({"embedding and positions", 1, size.tables, size.tables, 0});
  layers.push_back({"norm", 2 * m.blocks + 1, size.norms(), size.norms(), 0});
  const double attention = products(size.attention_matrices) + 4 * static_cast<double>(size.inner) * keys;
  layers.push_back({"attention", m.blocks, m.blocks * size.attention, m.blocks * size.attention, times(m.blocks, attention)});
  if (size.dense_blocks > 0) {
    const int64_t all = size.dense_blocks * size.feed_forward;
    layers.push_back({"feed-forward", size.dense_blocks, all, all, times(size.dense_blocks, products(size.feed_forward_matrices))});
  }
  if (size.moe_blocks > 0) {
    const int64_t routers = size.moe_blocks * size.router, one = size.moe_blocks * size.feed_forward;
    layers.push_back({"router", size.moe_blocks, routers, routers, times(size.moe_blocks, products(size.router))});
    layers.push_back({"expert", size.moe_blocks * m.moe.experts, one * m.moe.experts, one, times(size.moe_blocks, products(size.feed_forward_matrices))});
  }
  layers.push_back({"head (tied)", 1, 0, 0, products(m.vocabulary * m.width)});
  return layers;
}

ModelCost model_cost(const ModelOptions& model) {
  ModelCost cost;
  for (const LayerCost& layer : layer_costs(model)) {
    cost.parameters += layer.parameters;
    cost.active += layer.active;
    cost.training_flops += 3 * layer.forward_flops;
  }
  return cost;
}

ArenaBytes arena_bytes(const ModelOptions& model, const MemoryShape& shape) {
  const RankMemory rank(model, shape);
  return {rank.saved(), rank.scratch()};
}

std::vector<MemoryPart> memory_per_rank(const ModelOptions& model, const MemoryShape& shape) {
  const RankMemory rank(model, shape);
  return {
      {"masters", rank.owned() * rank.x},
      {"optimizer moments", rank.owned() * rank.x * shape.moments},
      {"gradient sums", rank.owned() * rank.x},
      {"gradients of lanes", rank.lane_gradients()},
      {"packed weights", rank.packed()},
      {"plain weights", rank.plain()},
      {"saved activations", rank.saved()},
      {"scratch", rank.scratch()},
      {"outboxes", rank.outboxes()},
      {"program and libraries", kProgramBytes + (shape.ranks > 1 ? kMpiBytes : 0)},
  };
}

}  // namespace switchyard
