// Attention backward. Probabilities are made again from log_sum_exp, transposed: rows are keys, columns the queries of
// one tile, so that dv = P^T do and dk = dS^T q need no transposition, and only dS has to be turned for dq = dS k.
//
//   dv_j = sum_i p_ij do_i;  ds_ij = p_ij (<do_i, v_j> - <do_i, o_i>);  dq_i = scale sum_j ds_ij k_j;  dk_j = scale sum_i ds_ij q_i
//
// A task is one head of one sequence, so that dk and dv are summed over tiles in one order; with a gradient of the bias
// it is one head, and the sequences follow one another.
#include "kernels/cpu/attention_plan.h"

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
  const AttentionInputs& in;
  const AttentionShape& shape;
  Tensor dq, dk, dv, d_o, o, log_sum_exp;
  Target dbias;
  Dtype dtype;  // in which operands are multiplied
  std::vector<BackwardTile> tiles;
  int64_t library_bytes = 0;
};

struct BackwardScratch {
  BackwardScratch(char* base, const BackwardPlan& plan) : walk(base) {
    const int64_t element = size_of(plan.dtype), width = plan.shape.width;
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
    p = element == 4 ? reinterpret_cast<char*>(s) : walk.take(keys * kTileQueries * element);
    ds = element == 4 ? reinterpret_cast<char*>(dp) : walk.take(keys * kTileQueries * element);
    ds_rows = walk.take(keys * kTileQueries * element);
    bias = plan.in.bias.exists() || plan.dbias.tensor.exists() ? walk.take<float>(keys * kTileQueries) : nullptr;
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
      : loops_(loops), plan_(plan), s_(plan.shape), at_(scratch, plan), thread_(thread) {}

  void run(int64_t b, int64_t h) {
    b_ = b;
    h_ = h;
    const PackLayout* packed = nullptr;
    const BackwardTile& last = plan_.tiles.back();  // sees most keys
      copy_rows(loops_, at_.k, plan_.dtype, key_rows(plan_.in.k, last.tile.keys), s_.width, last.tile.padded_keys);
    copy_rows(loops_, at_.v, plan_.dtype, key_rows(plan_.in.v, last.tile.keys), s_.width, last.tile.padded_keys);
    for (size_t i = plan_.tiles.size(); i-- > 0;) {
      const BackwardTile& t = plan_.tiles[i];
      if (packed == nullptr || !is_prefix(*t.keys_by_width, *packed)) {
        packed = t.keys_by_width;
        pack_rows(loops_, at_.k_packed, *packed, key_rows(plan_.in.k, t.tile.keys), true);
      }
      tile(t, i + 1 < plan_.tiles.size());
    }
    const float scale = static_cast<float>(s_.scale);
    store_keys(plan_.dk, at_.dk, scale, last.tile.keys);
    store_keys(plan_.dv, at_.dv, 1.0f, last.tile.keys);
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
    const HeadRows q = query_rows(plan_.in.q, t.tile), d_o = query_rows(plan_.d_o, t.tile), o = query_rows(plan_.o, t.tile);
    pack_rows(loops_, at_.q_columns, *t.width_by_queries, q, false);
    pack_rows(loops_, at_.do_columns, *t.width_by_queries, d_o, false);
    pack_rows(loops_, at_.q_rows, *t.queries_by_width, q, true);
    pack_rows(loops_, at_.do_rows, *t.queries_by_width, d_o, true);
    loops_.dot_rows(at_.center, d_o.data, o.data, d_o.dtype, t.tile.queries, s_.width, d_o.stride, o.stride);
    const float* saved = plan_.log_sum_exp.get<float>() + (b_ * s_.heads + h_) * s_.queries + t.tile.first;
    for (int64_t i = 0; i < t.tile.padded_queries; ++i) {
      at_.log_sum_exp[i] = i < t.tile.queries ? saved[i] : 0.0f;
      if (i >= t.tile.queries) at_.center[i] = 0.0f;
    }
    t.scores->run(thread_, at_.k, at_.q_columns, at_.s, at_.library);
    t.scores->run(thread_, at_.v, at_.do_columns, at_.dp, at_.library);
    softmax_gradient(t);
    products(t, add);
    if (plan_.dbias.tensor.exists()) add_bias_gradient(t);
  }

  void softmax_gradient(const BackwardTile& t) {
    SoftmaxGradient g{};
    g.s = at_.s;
    g.dp = at_.dp;
    g.p = at_.p;
    g.ds = at_.ds;
    g.dtype = plan_.dtype;
    g.keys = t.tile.keys;
    g.padded_keys = t.tile.padded_keys;
    g.queries = t.tile.queries;
    g.padded_queries = t.tile.padded_queries;
    g.causal = s_.causal;
    g.keep_ds = plan_.dbias.tensor.exists() && plan_.dtype != Dtype::kF32;
    g.first_position = s_.first_position + t.tile.first;
    g.scale = static_cast<float>(s_.scale);
    g.mask = plan_.in.mask.exists() ? plan_.in.mask.get<int32_t>() + b_ * s_.keys : nullptr;
    g.log_sum_exp = at_.log_sum_exp;
    g.center = at_.center;
    if (plan_.in.bias.exists()) {
      const float* bias = plan_.in.bias.get<float>() + (h_ * s_.queries + t.tile.first) * s_.keys;
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
    loops_.transpose({at_.ds_rows, plan_.dtype, at_.ds, plan_.dtype, t.tile.padded_queries, t.tile.padded_keys, t.tile.padded_queries, t.tile.padded_keys});
    t.queries_sum->run(thread_, at_.ds_rows, at_.k_packed, at_.dq, at_.library);
    char* dq = address(plan_.dq, b_ * s_.queries + t.tile.first, h_ * s_.width);
    loops_.scale_rows(dq, plan_.dq.dtype(), plan_.dq.row_stride(), at_.dq, s_.width, nullptr, static_cast<float>(s_.scale), t.tile.queries, s_.width);
  }

  void add_bias_gradient(const BackwardTile& t) {
    float* to = plan_.dbias.tensor.get<float>() + (h_ * s_.queries + t.tile.first) * s_.keys;
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

BackwardTile plan_tile(MatmulEngine& engine, const BackwardPlan& plan, const Tile& tile) {
  const int64_t queries = tile.padded_queries, keys = tile.padded_keys, width = plan.shape.width;
  BackwardTile t{};
  t.tile = tile;
  t.width_by_queries = &engine.layout(plan.dtype, width, queries);
  t.queries_by_width = &engine.layout(plan.dtype, queries, width);
  t.keys_by_width = &engine.layout(plan.dtype, keys, width);
  t.scores = &engine.find({plan.dtype, Dtype::kF32, keys, width, queries, false});
  t.keys_sum = &engine.find({plan.dtype, Dtype::kF32, keys, queries, width, true});
  t.queries_sum = &engine.find({plan.dtype, Dtype::kF32, queries, keys, width, false});
  return t;
}

}  // namespace

void CpuBackend::attention_backward(Out dq, Out dk, Out dv, Target dbias, const Tensor& d_o, const Tensor& o, const Tensor& log_sum_exp,
                                    const AttentionInputs& inputs, const AttentionShape& shape) {
  check_attention(inputs, shape);
  const Dtype dtype = inputs.q.dtype();
  check_matrix(dq.tensor, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected dq like q");
  check_matrix(dk.tensor, dtype, inputs.k.rows(), inputs.k.columns(), "attention_backward: expected dk like k");
  check_matrix(dv.tensor, dtype, inputs.v.rows(), inputs.v.columns(), "attention_backward: expected dv like v");
  check_dense(d_o, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected d_o like q");
  check_dense(o, dtype, inputs.q.rows(), inputs.q.columns(), "attention_backward: expected o like q");
  check_vector(log_sum_exp, Dtype::kF32, shape.batch * shape.heads * shape.queries, "attention_backward: expected log_sum_exp [B, H, queries], exact");
  const bool has_dbias = dbias.tensor.exists();
  if (has_dbias)
    check_vector(dbias.tensor, Dtype::kF32, shape.heads * shape.queries * shape.keys, "attention_backward: expected dbias [H, queries, keys], exact");
  if (has_dbias && !dbias.add) zero(Out(dbias.tensor));
  if (shape.batch * shape.heads * shape.queries * shape.width * shape.keys == 0) {
    for (const Out& d : {dq, dk, dv}) zero(d);
    return;
  }
  BackwardPlan plan{inputs, shape, dq.tensor, dk.tensor, dv.tensor, d_o, o, log_sum_exp, dbias, engine_.dtype_for(dtype), {}, 0};
  for (int64_t i = 0; i < tiles_of(shape); ++i) {
    const BackwardTile t = plan_tile(engine_, plan, tile_of(shape, i));
    plan.library_bytes = std::max({plan.library_bytes, t.scores->scratch_bytes(), t.keys_sum->scratch_bytes(), t.queries_sum->scratch_bytes()});
    plan.tiles.push_back(t);
  }
  team_.reserve(BackwardScratch(nullptr, plan).walk.bytes());
  const int64_t together = has_dbias ? shape.batch : 1;  // sequences of one head that one task takes, in order
  team_.run(shape.batch * shape.heads / together, [&](int64_t task, int thread) {
    HeadBackward head(loops_, plan, team_.scratch(thread), thread);
    for (int64_t i = 0; i < together; ++i) head.run(has_dbias ? i : task / shape.heads, task % shape.heads);
  });
}

}  // namespace switchyard::cpu
