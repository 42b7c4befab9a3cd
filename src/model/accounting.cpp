#include "src/model/accounting.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "comm/grid.h"
#include "src/base/checked.h"
#include "src/layers/loss.h"
#include "src/moe/capacity.h"
#include "src/moe/exchange.h"

namespace switchyard {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kProgramBytes = 44 * kMiB;  // code, libraries, their buffers and the kernels'; measured
constexpr int64_t kMpiBytes = 20 * kMiB;      // what MPI adds where there are several ranks; measured
constexpr int64_t kRounding = 16 * 1024;      // of an arena's pieces, to 64 bytes each, and its scalars
constexpr int64_t kBucketBytes = 32 * kMiB;   // ParameterStore::Options::bucket_bytes

// Sizes of one model that the formulas below share, in elements.
struct Sizes {
  explicit Sizes(const ModelOptions& model) : m(model) {
    moe_blocks = m.moe.experts > 1 ? m.blocks / m.moe.every : 0;
    dense_blocks = m.blocks - moe_blocks;
    inner = m.heads * m.head_width;
    norm = m.norm.kind == NormKind::kLayerNorm ? 2 * m.width : m.width;
    const bool relative = m.position == Position::kRelativeBias;
    tables = (m.vocabulary + (relative ? 0 : m.sequence_length)) * m.width;
    relative_bias = relative ? m.relative_buckets * m.heads : 0;
    attention_matrices = 4 * m.width * inner;
    attention = attention_matrices + (m.bias ? 3 * inner + m.width : 0);
    feed_forward = of_feed_forward(m.feed_forward);
    expert = of_feed_forward(expert_width());
    shared = m.moe.shared_experts > 0 ? of_feed_forward(m.moe.shared_experts * expert_width()) : 0;
    router = m.moe.router == RouterKind::kHash ? 0 : m.moe.experts * m.width * (m.moe.router == RouterKind::kSoft ? m.moe.soft_slots : 1);
    hidden = m.kind == ModelKind::kClassifier && m.classifier.hidden > 0 ? m.classifier.hidden * (m.width + 1) : 0;
    classes = m.kind == ModelKind::kClassifier ? m.classifier.classes * ((hidden > 0 ? m.classifier.hidden : m.width) + 1) : 0;
  }

  int64_t expert_width() const { return expert_feed_forward(m.moe, m.feed_forward); }
  // One feed-forward layer of `width` hidden elements: its matrices, and with biases.
  int64_t matrices_of(int64_t width) const { return (m.gated ? 3 : 2) * m.width * width; }
  int64_t of_feed_forward(int64_t width) const { return matrices_of(width) + (m.bias ? (m.gated ? 2 : 1) * width + m.width : 0); }
  int64_t norms() const { return (2 * m.blocks + (has_last_norm() ? 1 : 0)) * norm; }
  bool has_last_norm() const { return m.norm_place == NormPlace::kPre; }
  // Parameters that every rank has.
  int64_t dense() const {
    return tables + relative_bias + norms() + m.blocks * attention + dense_blocks * feed_forward + moe_blocks * (router + shared) + hidden + classes;
  }
  // Experts of a layer that one token goes to: with expert choice and Soft MoE on average.
  double experts_per_token() const {
    switch (m.moe.router) {
      case RouterKind::kTopK: return m.moe.top_k;
      case RouterKind::kNoTokenLeftBehind:
      case RouterKind::kHash: return 1;
      case RouterKind::kExpertChoice: return m.moe.capacity_factor > 0 ? std::min<double>(m.moe.capacity_factor, m.moe.experts) : m.moe.experts;
      case RouterKind::kSoft: return static_cast<double>(m.moe.experts * m.moe.soft_slots) / static_cast<double>(m.sequence_length);
    }
    throw InternalError("a router that nothing accounts for");
  }
  // Experts whose parameters one token meets: in Soft MoE its slots are in all of them.
  int64_t active_experts() const {
    if (m.moe.router == RouterKind::kSoft) return m.moe.experts;
    return std::min<int64_t>(m.moe.experts, static_cast<int64_t>(std::ceil(experts_per_token())));
  }

  const ModelOptions& m;
  int64_t moe_blocks, dense_blocks;
  int64_t inner;                          // H * K
  int64_t norm;                           // of one norm
  int64_t tables, relative_bias;          // tokens and positions; T5's table
  int64_t attention_matrices, attention;  // of one block; with biases
  int64_t feed_forward, expert, shared;   // of one layer, with biases
  int64_t router;                         // of one MoE layer
  int64_t hidden, classes;                // of a classifier's head, with biases
};

// What a rank may get of the tokens, in average shares, before its arenas take another block.
constexpr int64_t kUnevenLoad = 2;

// The memory of one rank whose experts get `load` times the average. Letters as in the design: T tokens of a micro-batch, D, F, E, H, N; a, w, x bytes of an
// activation, a weight and an exact number.
struct RankMemory {
  RankMemory(const ModelOptions& model, const MemoryShape& memory_shape, int64_t load)
      : size(model),
        shape(memory_shape),
        P(shape.ranks),
        T(shape.sequences * model.sequence_length),
        D(model.width),
        F(model.feed_forward),
        Fe(size.expert_width()),
        E(model.moe.experts),
        a(size_of(shape.precision.activation)),
        w(size_of(shape.precision.weight)),
        x(size_of(shape.precision.exact)),
        R(shape.replicas),
        copies(size.moe_blocks > 0 ? divide_up(E * R, P) : 0),
        hosted(std::min(copies, E)),
        blocks(size.moe_blocks > 0 ? Grid(0, shape.ranks, shape.lanes, shape.replicas).most_in_flight(0, model.moe.experts, [](int fed) { return fed; }) : 0),
        // T rows from each lane, to each token's experts, spread over the E that it feeds; half of a block's last multiple is padding.
        rows(size.moe_blocks > 0 ? rows_at_experts(load) : 0) {}

  int64_t rows_at_experts(int64_t load) const {
    if (fixed_block() > 0) return roomy(blocks * round_up(fixed_block(), kRowMultiple));
    return roomy(tokens_at_experts() * blocks * load / E + blocks * kRowMultiple / 2);
  }
  int64_t fixed_block() const { return size.m.moe.fixed_block; }
  // Of one lane, at home.
  int64_t entries() const { return fixed_block() > 0 ? E * fixed_block() : tokens_at_experts(); }
  int64_t tokens_at_experts() const { return static_cast<int64_t>(std::ceil(static_cast<double>(T) * size.experts_per_token())); }
  int64_t owned() const { return divide_up(size.dense(), P) + size.moe_blocks * owned_of_layer(); }
  // Of an expert with several replicas the blocks are divided over the hosts.
  int64_t owned_of_layer() const { return R == 1 ? hosted * size.expert : divide_up(E * size.expert, std::min(P, E * R)); }
  // A sum for each copy; with one replica, and of replica 0 on one rank, it is the owner's.
  int64_t replica_sums() const { return R == 1 ? 0 : size.moe_blocks * (P == 1 ? copies - E : copies) * size.expert; }
  int64_t bucket() const { return std::min(kBucketBytes, size.dense() * x); }

  // One buffer of all dense gradients for each lane of this rank that is being summed, and one for the micro-batch at
  // hand; a single rank sums its first lane where it is owned. Then two inboxes of a bucket's own range.
  int64_t lane_gradients() const {
    const int64_t rounds = divide_up(shape.lanes, P);
    int64_t buffers = P > 1 || shape.lanes > 1 ? 1 : 0;
    if (shape.accumulate > 1) buffers = 1 + (P > 1 ? rounds : rounds - 1);
    const int64_t inbox = P > 1 ? std::min(kBucketBytes, size.moe_blocks * owned_of_layer() * (R - 1) * x) : 0;  // of replicas' sums
    return buffers * size.dense() * x + 2 * bucket() / P * (P - 1) + replica_sums() * x + 2 * inbox;
  }

  // Two layouts of every matrix, one for each of its products; the router's are exact.
  int64_t packed() const {
    const ModelOptions& m = size.m;
    const int64_t head = m.kind == ModelKind::kDecoder ? m.vocabulary * D : size.hidden + size.classes;
    const int64_t in_moe = hosted * size.matrices_of(size.expert_width()) + size.matrices_of(m.moe.shared_experts * size.expert_width());
    const int64_t matrices = head + m.blocks * size.attention_matrices + size.dense_blocks * size.matrices_of(m.feed_forward) + size.moe_blocks * in_moe;
    return 2 * (matrices * w + size.moe_blocks * size.router * x);
  }
  // One rank reads its masters in place where they have the dtype of weights, and tables of its own where not. Several
  // ranks gather all that is dense, through a staging buffer, and have the new values of experts with replicas sent to them.
  int64_t plain() const {
    if (P == 1) return w == x ? 0 : size.tables * w;
    const int64_t experts = R > 1 ? size.moe_blocks * hosted * size.expert : 0;
    return (size.dense() + experts) * w + std::min(kBucketBytes / x * w, size.dense() * w) / P;
  }

  int64_t saved() const {
    const int64_t stream = T * D * a, norm = stream + 2 * T * x;
    const int64_t attention = 4 * T * size.inner * a + T * size.m.heads * x;
    const int64_t returned = entries() * D * a;
    const int64_t moe = routing() + rows * (D + kept_hidden() * Fe) * a + returned + kept_hidden() * T * size.m.moe.shared_experts * Fe * a;
    return stream + norm + size.m.blocks * (2 * norm + attention + 2 * stream) + size.dense_blocks * kept_hidden() * T * F * a + size.moe_blocks * moe +
           pool() + relative_bias() + kRounding;
  }

  // What one router keeps. In Soft MoE: two weights for each token and slot, and the slots' outputs.
  int64_t routing() const {
    if (soft()) return tokens_at_experts() * (4 * size_of(Dtype::kI32) + D * a) + 2 * T * slots() * x;
    const int64_t choices = choices_of(size.m.moe);
    const int64_t lists = choices == 1 ? entries() : 2 * T * choices;
    return (3 * T * choices + lists) * size_of(Dtype::kI32) + T * (E + 1 + choices) * x;
  }
  bool soft() const { return size.m.moe.router == RouterKind::kSoft; }
  int64_t slots() const { return E * size.m.moe.soft_slots; }  // of a sequence

  // Hidden tensors that a feed-forward layer keeps: gated layers and GELU keep what their products gave, too.
  int64_t kept_hidden() const { return size.m.gated ? 3 : size.m.activation == Activation::kGelu ? 2 : 1; }
  // The relative bias of all scores, or its gradient.
  int64_t relative_bias() const { return size.relative_bias > 0 ? size.m.heads * size.m.sequence_length * size.m.sequence_length * x : 0; }
  // A classifier's weights of the mean.
  int64_t pool() const { return size.m.kind == ModelKind::kClassifier ? T * x : 0; }

  // The largest of what one layer needs at a time, above the gradients of the loss and of the residual stream.
  int64_t scratch() const {
    const int64_t stream = T * D * a, chunk = std::min<int64_t>(LossLayer::kRows, T);
    const int64_t dropped = size.m.dropout > 0 ? stream : 0;
    const bool decoder = size.m.kind == ModelKind::kDecoder;
    int64_t largest = decoder ? chunk * size.m.vocabulary * a + (size.m.scale_tied_head ? chunk * D * (a + x) : 0) : 2 * T * x;
    largest = std::max(largest, stream + dropped + stream + 4 * T * size.inner * a);
    // Gated: two gradients of hidden elements, and two products that add to one input's, in exact.
    const int64_t hidden = size.m.gated ? 2 : 1;
    const int64_t input = size.m.gated && a != x ? D * x : 0;
    if (size.dense_blocks > 0) largest = std::max(largest, stream + dropped + stream + T * (hidden * F * a + input));
    if (size.moe_blocks > 0) {
      const int64_t sum = a == x ? 0 : T * D * x;
      const int64_t shared = size.m.moe.shared_experts > 0 ? stream : 0;  // their gradient, until it is added
      const int64_t trip = (rows + entries()) * D * a + std::max(payloads(0), payloads(2));  // at the experts, and back home
      const int64_t in_shared = T * (hidden * size.m.moe.shared_experts * Fe * a + input);
      const int64_t in_experts = rows * (hidden * Fe * a + input);
      const int64_t in_router = T * E * x + 2 * T * D * x;
      // Gradients of both weights and of the logits; those of the slots, as they come and packed for two products.
      const int64_t in_mixer = 4 * T * slots() * x + tokens_at_experts() * D * (x + 2 * a) + T * D * x;
      const int64_t gates = 2 * entries() * x;  // of all entries, and their gradients
      largest = std::max(largest, 2 * stream + dropped + sum + shared + trip + gates + std::max({in_shared, in_experts, soft() ? in_mixer : in_router}));
    }
    return stream + relative_bias() + largest + kRounding;
  }

  // Of a trip whose first way is number `way`: rows before they are compressed, and payloads and norms as they arrive.
  int64_t payloads(size_t way) const {
    const int64_t leaving = entries(), word = size_of(Dtype::kI32);
    const auto inbox = [&](size_t of, int64_t arriving) {
      return size.m.moe.payload.format[of] == PayloadFormat::kPlain ? 0 : (arriving * payload_words(D) + 2 * leaving) * word;
    };
    const int64_t inboxes = inbox(way, rows) + inbox(way + 1, leaving);
    return inboxes == 0 ? 0 : inboxes + std::max(rows, leaving) * D * a;
  }

  // Pairs of outboxes, as far as they are filled: rows on their way, and buckets. Peers' pages that this rank pulls from
  // count as its own, too.
  int64_t outboxes() const {
    const int64_t row = size.m.moe.payload.all() ? payload_words(D) * size_of(Dtype::kI32) : D * a;
    const int64_t exchange = size.moe_blocks > 0 ? 2 * std::max({rows, T, entries()}) * row : 0;
    const int64_t sums = R > 1 ? std::min(kBucketBytes, replica_sums() * x) : 0;
    return P == 1 ? exchange : 2 * exchange + 4 * std::max(bucket() / P * (P - 1), sums);
  }

  Sizes size;
  const MemoryShape& shape;
  int64_t P, T, D, F, Fe, E, a, w, x;  // Fe: F of one expert
  int64_t R;
  int64_t copies, hosted;              // of the experts of one MoE layer, replicas on this rank; experts that have one here
  int64_t blocks;                      // pairs of a copy here and a lane in flight that feeds it
  int64_t rows;                        // that one MoE layer takes memory for at its experts, all lanes in flight
};

// The layers one by one, as a token meets them.
class CostTable {
 public:
  explicit CostTable(const ModelOptions& model) : m_(model), size_(model), stack_(model.kind == ModelKind::kDecoder ? "decoder" : "classifier") {}

  std::vector<LayerCost> layers() && {
    add(".embedding", "embedding", size_.tables, size_.tables, 0);
    if (size_.relative_bias > 0) add(".relative_bias", "relative position bias", size_.relative_bias, size_.relative_bias, 0);
    for (int64_t block = 0; block < m_.blocks; ++block) {
      const std::string name = fmt::format(".block.{}", block);
      add_attention(name + ".attention");
      if (is_moe_block(m_.moe, block)) {
        add_moe(name + ".moe");
      } else {
        const int64_t all = size_.norm + size_.feed_forward;
        add(name + ".feed_forward", "feed-forward", all, all, products(size_.matrices_of(m_.feed_forward)));
      }
    }
    if (size_.has_last_norm()) add(".norm", "norm", size_.norm, size_.norm, 0);
    add_head();
    return std::move(layers_);
  }

 private:
  static double products(int64_t matrices) { return 2 * static_cast<double>(matrices); }
  void add(const std::string& name, const std::string& kind, int64_t parameters, int64_t active, double flops) {
    layers_.push_back({stack_ + name, kind, {m_.sequence_length, m_.width}, parameters, active, flops});
  }

  void add_attention(const std::string& name) {
    const auto length = static_cast<double>(m_.sequence_length);
    const double keys = m_.causal() ? (length + 1) / 2 : length;
    const int64_t all = size_.norm + size_.attention;
    add(name, fmt::format("attention: {} {}", m_.heads, m_.heads == 1 ? "head" : "heads"), all, all,
        products(size_.attention_matrices) + 4 * static_cast<double>(size_.inner) * keys);
  }

  void add_moe(const std::string& name) {
    const int64_t every_token = size_.norm + size_.router + size_.shared;
    const bool soft = m_.moe.router == RouterKind::kSoft;
    // Soft MoE weighs all tokens for every slot, and all slots for every token.
    const double mixing = soft ? 3 * products(size_.router) : products(size_.router);
    const double flops = mixing + size_.experts_per_token() * products(size_.matrices_of(size_.expert_width())) +
                         products(size_.matrices_of(m_.moe.shared_experts * size_.expert_width()));
    const std::string use = soft ? fmt::format("{} slots each", m_.moe.soft_slots) : fmt::format("{:g} a token", size_.experts_per_token());
    const std::string beside = m_.moe.shared_experts > 0 ? fmt::format(", {} shared", m_.moe.shared_experts) : "";
    add(name, fmt::format("MoE: {} experts, {}{}", m_.moe.experts, use, beside), every_token + m_.moe.experts * size_.expert,
        every_token + size_.active_experts() * size_.expert, flops);
  }

  void add_head() {
    if (m_.kind == ModelKind::kDecoder) {
      layers_.push_back({"decoder.embedding.token", "head (tied)", {m_.sequence_length, m_.vocabulary}, 0, 0, products(m_.vocabulary * m_.width)});
      return;
    }
    // Once a sequence, and so for a token the length's part of it.
    const auto part = [&](int64_t matrices) { return products(matrices) / static_cast<double>(m_.sequence_length); };
    layers_.push_back({"classifier.pool", "mean", {m_.width}, 0, 0, 2 * static_cast<double>(m_.width)});
    if (size_.hidden > 0)
      layers_.push_back(
          {"classifier.head.hidden", "dense, ReLU", {m_.classifier.hidden}, size_.hidden, size_.hidden, part(size_.hidden - m_.classifier.hidden)});
    layers_.push_back(
        {"classifier.head.classes", "dense, softmax", {m_.classifier.classes}, size_.classes, size_.classes, part(size_.classes - m_.classifier.classes)});
  }

  const ModelOptions& m_;
  Sizes size_;
  std::string stack_;
  std::vector<LayerCost> layers_;
};

}  // namespace

std::vector<LayerCost> layer_costs(const ModelOptions& m) { return CostTable(m).layers(); }

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
  const RankMemory rank(model, shape, shape.ranks == 1 ? 1 : kUnevenLoad);
  return {rank.saved(), rank.scratch()};
}

std::vector<MemoryPart> memory_per_rank(const ModelOptions& model, const MemoryShape& shape) {
  const RankMemory rank(model, shape, 1);
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
