// Attention forward, products in BF16 by the matrix library. A head's keys and values are packed once, then for each tile of
// queries scores are made in scratch, become probabilities there, and meet the values. Keys after the tile's last
// visible one are left out. Tiles run from the last to the first: the last one sees most keys, and its packed operands
// contain those of the others.
#include "kernels/cpu/attention_bf16.h"

namespace switchyard::cpu {

namespace {

struct ForwardTile {
  Tile tile;
  const PackLayout* keys;    // B [width, padded_keys]
  const PackLayout* values;  // B [padded_keys, width]
  Matmul* scores;
  Matmul* output;
};

struct ForwardPlan {
  const AttentionInputs& in;
  const AttentionShape& shape;
  std::vector<ForwardTile> tiles;
  int64_t library_bytes = 0;
};

struct ForwardScratch {
  ForwardScratch(char* base, const ForwardPlan& plan) : walk(base) {
    const int64_t element = size_of(Dtype::kBF16), width = plan.shape.width;
    int64_t keys = 0, key_bytes = 0, value_bytes = 0;
    for (const ForwardTile& t : plan.tiles) {
      keys = std::max(keys, t.tile.padded_keys);
      key_bytes = std::max(key_bytes, t.keys->bytes);
      value_bytes = std::max(value_bytes, t.values->bytes);
    }
    k = walk.take(key_bytes);
    v = walk.take(value_bytes);
    q = walk.take(kTileQueries * width * element);
    s = walk.take<float>(kTileQueries * keys);
    p = walk.take(kTileQueries * keys * element);
    o = walk.take<float>(kTileQueries * width);
    inverse = walk.take<float>(kTileQueries);
    library = walk.take(plan.library_bytes);
  }
  Scratch walk;
  char *k, *v, *q;
  float* s;
  char* p;
  float *o, *inverse;
  char* library;
};

void forward_tile(const Loops& loops, const ForwardPlan& plan, const ForwardTile& t, const ForwardScratch& at, int64_t b, int64_t h, Tensor o,
                  float* log_sum_exp, int thread) {
  const AttentionShape& s = plan.shape;
  const int64_t first_row = b * s.queries + t.tile.first;
  copy_rows(loops, at.q, Dtype::kBF16, head_rows(plan.in.q, first_row, t.tile.queries, h * s.width), s.width, t.tile.padded_queries);
  t.scores->run(thread, at.q, at.k, at.s, at.library);
  SoftmaxRows rows{};
  rows.s = at.s;
  rows.p = at.p;
  rows.dtype = Dtype::kBF16;
  rows.rows = t.tile.queries;
  rows.padded_keys = rows.stride = t.tile.padded_keys;
  rows.sights = sights_of(plan.in, s, b, h, t.tile.first, t.tile.keys);
  rows.inverse = at.inverse;
  rows.log_sum_exp = log_sum_exp + (b * s.heads + h) * s.queries + t.tile.first;
  loops.softmax_rows(rows);
  const int64_t row_bytes = t.tile.padded_keys * size_of(Dtype::kBF16);
  std::memset(at.p + t.tile.queries * row_bytes, 0, static_cast<size_t>((t.tile.padded_queries - t.tile.queries) * row_bytes));
  t.output->run(thread, at.p, at.v, at.o, at.library);
  loops.scale_rows(address(o, first_row, h * s.width), o.dtype(), o.row_stride(), at.o, s.width, at.inverse, 1.0f, t.tile.queries, s.width);
}

void forward_head(const Loops& loops, const ForwardPlan& plan, char* scratch, int64_t b, int64_t h, Tensor o, float* log_sum_exp, int thread) {
  const AttentionShape& s = plan.shape;
  const ForwardScratch at(scratch, plan);
  const PackLayout *keys = nullptr, *values = nullptr;
  for (size_t i = plan.tiles.size(); i-- > 0;) {
    const ForwardTile& t = plan.tiles[i];
    if (keys == nullptr || !is_prefix(*t.keys, *keys)) {
      keys = t.keys;
      pack_rows(loops, at.k, *keys, head_rows(plan.in.k, b * s.key_stride, t.tile.keys, h * s.width), false);
    }
    if (values == nullptr || !is_prefix(*t.values, *values)) {
      values = t.values;
      pack_rows(loops, at.v, *values, head_rows(plan.in.v, b * s.key_stride, t.tile.keys, h * s.width), true);
    }
    forward_tile(loops, plan, t, at, b, h, o, log_sum_exp, thread);
  }
}

}  // namespace

void attention_bf16(const Loops& loops, Team& team, MatmulEngine& engine, const AttentionForward& job) {
  const AttentionShape& s = job.shape;
  ForwardPlan plan{job.in, s, {}, 0};
  for (int64_t i = 0; i < tiles_of(s); ++i) {
    ForwardTile t{tile_of(s, i), nullptr, nullptr, nullptr, nullptr};
    const int64_t rows = t.tile.padded_queries, keys = t.tile.padded_keys;
    t.keys = &engine.layout(Dtype::kBF16, s.width, keys);
    t.values = &engine.layout(Dtype::kBF16, keys, s.width);
    t.scores = &engine.find({Dtype::kBF16, Dtype::kF32, rows, s.width, keys, false});
    t.output = &engine.find({Dtype::kBF16, Dtype::kF32, rows, keys, s.width, false});
    plan.library_bytes = std::max({plan.library_bytes, t.scores->scratch_bytes(), t.output->scratch_bytes()});
    plan.tiles.push_back(t);
  }
  team.reserve(ForwardScratch(nullptr, plan).walk.bytes());
  for_heads(team, s, false,
            [&](int64_t b, int64_t h, int thread) { forward_head(loops, plan, team.scratch(thread), b, h, job.o, job.log_sum_exp.get<float>(), thread); });
}

}  // namespace switchyard::cpu
