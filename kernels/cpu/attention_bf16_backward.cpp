// Attention backward, products in BF16 by the matrix library. Probabilities are made again from log_sum_exp, transposed:
// rows are keys, columns the queries of one tile, so that dv = P^T do and dk = dS^T q need no transposition, and only dS
// has to be turned for dq = dS k. attention_f32.cpp has the formulas.
#include "kernels/cpu/attention_bf16.h"

namespace switchyard::cpu {
namespace {

struct BackwardTile {
  Tile tile;
  const PackLayout* width_by_queries;  // B [width, queries]: q^T and do^T
  const PackLayout* queries_by_width;  // B [queries, width]: q and do
  const PackLayout* keys_by_width;     // B [keys, width]: k
  Matmul* scores;                      // [keys, width] x [width, queries]
  Matmul* keys_sum;                    // [keys, queries] x [queries, width]: dk and dv
  Matmul* queries_sum;                 // [queries, keys] x [keys, width]: dq
};

struct BackwardPlan {
  const AttentionBackward& job;
  std::vector<BackwardTile> tiles;
  int64_t library_bytes = 0;
};

struct BackwardScratch {
  BackwardScratch(char* base, const BackwardPlan& plan) : walk(base) {
    const int64_t element = size_of(Dtype::kBF16), width = plan.job.shape.width;
    int64_t keys = 0, transposed = 0, straight = 0, packed = 0;
    for (const BackwardTile& t : plan.tiles) {
      keys = std::max(keys, t.tile.padded_keys);
      transposed = std::max(transposed, t.width_by_queries->bytes);
      straight = std::max(straight, t.queries_by_width->bytes);
      packed = std::max(packed, t.keys_by_width->bytes);
    }
    k = walk.take(keys * width * element);
    v = walk.take(keys * width * element);
    k_packed = walk.take(packed);
    q_columns = walk.take(transposed);
    do_columns = walk.take(transposed);
    q_rows = walk.take(straight);
    do_rows = walk.take(straight);
    s = walk.take<float>(keys * kTileQueries);
    dp = walk.take<float>(keys * kTileQueries);
    p = walk.take(keys * kTileQueries * element);
    ds = walk.take(keys * kTileQueries * element);
    ds_rows = walk.take(keys * kTileQueries * element);
    bias = plan.job.in.bias.exists() || plan.job.dbias.exists() ? walk.take<float>(keys * kTileQueries) : nullptr;
    dk = walk.take<float>(keys * width);
    dv = walk.take<float>(keys * width);
    dq = walk.take<float>(kTileQueries * width);
    log_sum_exp = walk.take<float>(kTileQueries);
    center = walk.take<float>(kTileQueries);
    library = walk.take(plan.library_bytes);
  }
  Scratch walk;
  char *k, *v, *k_packed, *q_columns, *do_columns, *q_rows, *do_rows;
  float *s, *dp;
  char *p, *ds, *ds_rows;
  float *bias, *dk, *dv, *dq, *log_sum_exp, *center;
  char* library;
};

// One head of one sequence.
class HeadBackward {
 public:
  HeadBackward(const Loops& loops, const BackwardPlan& plan, char* scratch, int thread)
      : loops_(loops), plan_(plan), s_(plan.job.shape), at_(scratch, plan), thread_(thread) {}

  void run(int64_t b, int64_t h) {
    b_ = b;
    h_ = h;
    const PackLayout* packed = nullptr;
    const BackwardTile& last = plan_.tiles.back();  // sees most keys
    copy_rows(loops_, at_.k, Dtype::kBF16, key_rows(plan_.job.in.k, last.tile.keys), s_.width, last.tile.padded_keys);
    copy_rows(loops_, at_.v, Dtype::kBF16, key_rows(plan_.job.in.v, last.tile.keys), s_.width, last.tile.padded_keys);
    for (size_t i = plan_.tiles.size(); i-- > 0;) {
      const BackwardTile& t = plan_.tiles[i];
      if (packed == nullptr || !is_prefix(*t.keys_by_width, *packed)) {
        packed = t.keys_by_width;
        pack_rows(loops_, at_.k_packed, *packed, key_rows(plan_.job.in.k, t.tile.keys), true);
      }
      tile(t, i + 1 < plan_.tiles.size());
    }
    const float scale = static_cast<float>(s_.scale);
    store_keys(plan_.job.dk, at_.dk, scale, last.tile.keys);
    store_keys(plan_.job.dv, at_.dv, 1.0f, last.tile.keys);
  }

 private:
  HeadRows key_rows(const Tensor& x, int64_t keys) const { return head_rows(x, b_ * s_.key_stride, keys, h_ * s_.width); }
  HeadRows query_rows(const Tensor& x, const Tile& t) const { return head_rows(x, b_ * s_.queries + t.first, t.queries, h_ * s_.width); }

  // Keys that no query sees have gradient 0, and so have the rows between keys and key_stride.
  void store_keys(const Tensor& d, const float* from, float scale, int64_t keys) {
    loops_.scale_rows(address(d, b_ * s_.key_stride, h_ * s_.width), d.dtype(), d.row_stride(), from, s_.width, nullptr, scale, keys, s_.width);
    for (int64_t j = keys; j < s_.key_stride; ++j) {
      std::memset(address(d, b_ * s_.key_stride + j, h_ * s_.width), 0, static_cast<size_t>(s_.width * size_of(d.dtype())));
    }
  }

  void tile(const BackwardTile& t, bool add) {
    const HeadRows q = query_rows(plan_.job.in.q, t.tile), d_o = query_rows(plan_.job.d_o, t.tile), o = query_rows(plan_.job.o, t.tile);
    pack_rows(loops_, at_.q_columns, *t.width_by_queries, q, false);
    pack_rows(loops_, at_.do_columns, *t.width_by_queries, d_o, false);
    pack_rows(loops_, at_.q_rows, *t.queries_by_width, q, true);
    pack_rows(loops_, at_.do_rows, *t.queries_by_width, d_o, true);
    loops_.dot_rows(at_.center, d_o.data, o.data, d_o.dtype, t.tile.queries, s_.width, d_o.stride, o.stride);
    const float* saved = plan_.job.log_sum_exp.get<float>() + (b_ * s_.heads + h_) * s_.queries + t.tile.first;
    for (int64_t i = 0; i < t.tile.padded_queries; ++i) {
      at_.log_sum_exp[i] = i < t.tile.queries ? saved[i] : 0.0f;
      if (i >= t.tile.queries) at_.center[i] = 0.0f;
    }
    t.scores->run(thread_, at_.k, at_.q_columns, at_.s, at_.library);
    t.scores->run(thread_, at_.v, at_.do_columns, at_.dp, at_.library);
    softmax_gradient(t);
    products(t, add);
    if (plan_.job.dbias.exists()) add_bias_gradient(t);
  }

  void softmax_gradient(const BackwardTile& t) {
    SoftmaxGradient g{};
    g.s = at_.s;
    g.dp = at_.dp;
    g.p = at_.p;
    g.ds = at_.ds;
    g.keys = t.tile.keys;
    g.padded_keys = t.tile.padded_keys;
    g.queries = t.tile.queries;
    g.padded_queries = t.tile.padded_queries;
    g.causal = s_.causal;
    g.keep_ds = plan_.job.dbias.exists();
    g.first_position = s_.first_position + t.tile.first;
    g.scale = static_cast<float>(s_.scale);
    g.mask = plan_.job.in.mask.exists() ? plan_.job.in.mask.get<int32_t>() + b_ * s_.keys : nullptr;
    g.log_sum_exp = at_.log_sum_exp;
    g.center = at_.center;
    if (plan_.job.in.bias.exists()) {
      const float* bias = plan_.job.in.bias.get<float>() + (h_ * s_.queries + t.tile.first) * s_.keys;
      loops_.transpose({at_.bias, Dtype::kF32, bias, Dtype::kF32, s_.keys, t.tile.queries, t.tile.keys, t.tile.padded_queries});
      g.bias = at_.bias;
    }
    loops_.softmax_gradient(g);
  }

  void products(const BackwardTile& t, bool add) {
    // The first tile overwrites; later ones see fewer keys and add to their first rows.
    if (!add) {
      std::memset(at_.dk, 0, static_cast<size_t>(t.tile.padded_keys * s_.width) * sizeof(float));
      std::memset(at_.dv, 0, static_cast<size_t>(t.tile.padded_keys * s_.width) * sizeof(float));
    }
    t.keys_sum->run(thread_, at_.p, at_.do_rows, at_.dv, at_.library);
    t.keys_sum->run(thread_, at_.ds, at_.q_rows, at_.dk, at_.library);
    loops_.transpose({at_.ds_rows, Dtype::kBF16, at_.ds, Dtype::kBF16, t.tile.padded_queries, t.tile.padded_keys, t.tile.padded_queries, t.tile.padded_keys});
    t.queries_sum->run(thread_, at_.ds_rows, at_.k_packed, at_.dq, at_.library);
    char* dq = address(plan_.job.dq, b_ * s_.queries + t.tile.first, h_ * s_.width);
    loops_.scale_rows(dq, plan_.job.dq.dtype(), plan_.job.dq.row_stride(), at_.dq, s_.width, nullptr, static_cast<float>(s_.scale), t.tile.queries, s_.width);
  }

  void add_bias_gradient(const BackwardTile& t) {
    float* to = plan_.job.dbias.get<float>() + (h_ * s_.queries + t.tile.first) * s_.keys;
    loops_.transpose({at_.bias, Dtype::kF32, at_.dp, Dtype::kF32, t.tile.padded_queries, t.tile.padded_keys, t.tile.padded_queries, t.tile.padded_keys});
    for (int64_t i = 0; i < t.tile.queries; ++i)
      loops_.convert(to + i * s_.keys, Dtype::kF32, at_.bias + i * t.tile.padded_keys, Dtype::kF32, t.tile.keys, true);
  }

  const Loops& loops_;
  const BackwardPlan& plan_;
  const AttentionShape& s_;
  BackwardScratch at_;
  int thread_;
  int64_t b_ = 0, h_ = 0;
};

BackwardTile plan_tile(MatmulEngine& engine, int64_t width, const Tile& tile) {
  const int64_t queries = tile.padded_queries, keys = tile.padded_keys;
  BackwardTile t{};
  t.tile = tile;
  t.width_by_queries = &engine.layout(Dtype::kBF16, width, queries);
  t.queries_by_width = &engine.layout(Dtype::kBF16, queries, width);
  t.keys_by_width = &engine.layout(Dtype::kBF16, keys, width);
  t.scores = &engine.find({Dtype::kBF16, Dtype::kF32, keys, width, queries, false});
  t.keys_sum = &engine.find({Dtype::kBF16, Dtype::kF32, keys, queries, width, true});
  t.queries_sum = &engine.find({Dtype::kBF16, Dtype::kF32, queries, keys, width, false});
  return t;
}

}  // namespace

void attention_bf16(const Loops& loops, Team& team, MatmulEngine& engine, const AttentionBackward& job) {
  BackwardPlan plan{job, {}, 0};
  for (int64_t i = 0; i < tiles_of(job.shape); ++i) {
    const BackwardTile t = plan_tile(engine, job.shape.width, tile_of(job.shape, i));
    plan.library_bytes = std::max({plan.library_bytes, t.scores->scratch_bytes(), t.keys_sum->scratch_bytes(), t.queries_sum->scratch_bytes()});
    plan.tiles.push_back(t);
  }
  team.reserve(BackwardScratch(nullptr, plan).walk.bytes());
  for_heads(team, job.shape, job.dbias.exists(), [&](int64_t b, int64_t h, int thread) { HeadBackward(loops, plan, team.scratch(thread), thread).run(b, h); });
}

}  // namespace switchyard::cpu
