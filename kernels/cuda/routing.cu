// A warp for each token. Sums over tokens are made for tiles of them (places.h), then over the tiles of a group, then over
// the groups, in F64.
#include <cmath>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/places.h"
#include "kernels/cuda/rows_of_warps.h"

namespace switchyard::cuda {
namespace {

// ---- forward

struct LogitsShape {
  int64_t tokens, experts;
};

struct Choice {
  float probability;
  int expert;
};

// The larger probability, the lower expert on a tie. Lane 0 has the best of all; where nothing compares, its own.
__device__ Choice best_of_warp(Choice own) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const float p = __shfl_xor_sync(kFullMask, own.probability, distance);
    const int expert = __shfl_xor_sync(kFullMask, own.expert, distance);
    if (p > own.probability || (p == own.probability && expert < own.expert)) own = {p, expert};
  }
  return own;
}

// p = softmax(logits) for one token, log_sum_exp and the choice; every lane has log_sum_exp, lane 0 the choice.
__device__ Choice softmax_of_row(float* p, float* log_sum_exp, const float* logits, int64_t experts) {
  const int lane = lane_number();
  float largest = -INFINITY;
  for (int64_t e = lane; e < experts; e += kWarp) largest = fmaxf(largest, logits[e]);
  largest = warp_max(largest);
  float total = 0;
  for (int64_t e = lane; e < experts; e += kWarp) {
    p[e] = expf(logits[e] - largest);
    total += p[e];
  }
  total = warp_sum(total);
  *log_sum_exp = largest + logf(total);
  Choice best{-1, lane};
  for (int64_t e = lane; e < experts; e += kWarp) {
    p[e] = p[e] / total;
    if (e == lane || p[e] > best.probability) best = {p[e], static_cast<int>(e)};
  }
  return best_of_warp(best);
}

__global__ void __launch_bounds__(kBlock)
    choose_experts(float* probabilities, float* log_sum_exp, int32_t* expert, float* gate, const float* logits, const int32_t* mask, LogitsShape s) {
  for (int64_t t = warp_number(); t < s.tokens; t += warps_of_grid()) {
    float total = 0;
    const Choice best = softmax_of_row(probabilities + t * s.experts, &total, logits + t * s.experts, s.experts);
    if (lane_number() != 0) continue;
    const bool counts = mask == nullptr || mask[t] != 0;
    log_sum_exp[t] = total;
    expert[t] = counts ? best.expert : -1;
    gate[t] = counts ? best.probability : 0.0f;
  }
}

// ---- losses and backward

struct RoutedShape {
  Tiling tiling;  // of the tokens
  int64_t experts, groups;
  double z;

  __host__ __device__ int64_t chunks() const { return divide_up(experts, kWarp); }
};

// A warp for each group, of `count` tokens that count: weight[g, e] = balance f_e / count, f_e = requested[g, e] / count, so
// that the loss is the sum of weight * probability over tokens and experts. 0 for a group of padding.
__global__ void __launch_bounds__(kBlock) weigh_experts(double* weight, const int32_t* requested, RoutedShape s, double balance) {
  for (int64_t g = warp_number(); g < s.groups; g += warps_of_grid()) {
    int own = 0;
    for (int64_t e = lane_number(); e < s.experts; e += kWarp) own += requested[g * s.experts + e];
    for (int distance = kWarp / 2; distance > 0; distance /= 2) own += __shfl_xor_sync(kFullMask, own, distance);
    const auto count = static_cast<double>(own);
    const double factor = own > 0 ? balance / (count * count) : 0.0;
    for (int64_t e = lane_number(); e < s.experts; e += kWarp) weight[g * s.experts + e] = factor * requested[g * s.experts + e];
  }
}

template <int kCount>
struct TotalsOfWarps {
  double x[kWarps][kCount];
};

// Over all threads of a block of kBlock; the result is thread 0's. Before the next call there is a barrier.
template <int kCount>
__device__ void sum_over_block(double (&own)[kCount]) {
  auto& shared = shared_storage<TotalsOfWarps<kCount>>();
  for (double& x : own) x = warp_sum(x);
  for (int i = 0; i < kCount; ++i) {
    if (lane_number() == 0) shared.x[warp_of_block()][i] = own[i];
  }
  __syncthreads();
  for (int i = 0; i < kCount && threadIdx.x == 0; ++i) {
    own[i] = 0;
    for (int w = 0; w < kWarps; ++w) own[i] += shared.x[w][i];
  }
}

// A block for each tile: mass [tiles, experts], the probabilities of each expert over the tile's tokens that count, and
// parts [tiles, 3], over the same tokens: log_sum_exp^2, entropy, the chosen probability.
__global__ void __launch_bounds__(kBlock)
    sum_tiles(double* mass, double* parts, const float* probabilities, const float* log_sum_exp, const int32_t* expert, RoutedShape s) {
  static_assert(kTile == kBlock, "a thread has one token of a tile");
  for (int64_t tile = blockIdx.x; tile < s.tiling.tiles; tile += gridDim.x) {
    const int64_t first = s.tiling.first_item(tile), end = s.tiling.end_item(tile), own = first + threadIdx.x;
    double sums[3] = {0, 0, 0};
    for (int64_t e = lane_number(); e < s.chunks() * kWarp; e += kWarp) {
      double total = 0;
      for (int64_t t = first + warp_of_block(); t < end && e < s.experts; t += kWarps) {
        const float p = expert[t] < 0 ? 0.0f : probabilities[t * s.experts + e];
        total += static_cast<double>(p);
        if (p > 0) sums[1] -= static_cast<double>(p) * static_cast<double>(logf(p));
      }
      total = sum_over_warps(total);
      if (warp_of_block() == 0 && e < s.experts) mass[tile * s.experts + e] = total;
    }
    if (own < end && expert[own] >= 0) {
      const auto total = static_cast<double>(log_sum_exp[own]);
      sums[0] = total * total;
      sums[2] = static_cast<double>(probabilities[own * s.experts + expert[own]]);
    }
    sum_over_block(sums);
    for (int i = 0; i < 3 && threadIdx.x == 0; ++i) parts[3 * tile + i] = sums[i];
  }
}

// A block for each group and chunk of kWarp experts: balance [groups, chunks], their part of the loss.
__global__ void __launch_bounds__(kBlock) sum_groups(double* balance, const double* mass, const double* weight, RoutedShape s) {
  for (int64_t job = blockIdx.x; job < s.groups * s.chunks(); job += gridDim.x) {
    const int64_t group = job / s.chunks(), e = job % s.chunks() * kWarp + lane_number();
    const bool exists = e < s.experts;
    double total = 0;
    for (int64_t i = warp_of_block(); i < s.tiling.tiles_of_group && exists; i += kWarps) {
      total += mass[(group * s.tiling.tiles_of_group + i) * s.experts + e];
    }
    total = sum_over_warps(total);
    if (warp_of_block() != 0) continue;
    total = warp_sum(exists ? total * weight[group * s.experts + e] : 0.0);
    if (lane_number() == 0) balance[job] = total;
  }
}

// One block.
__global__ void __launch_bounds__(kBlock) finish_losses(double* sums, const double* balance, const double* parts, RoutedShape s) {
  double totals[kRouterSums] = {0, 0, 0, 0};
  for (int64_t i = threadIdx.x; i < s.groups * s.chunks(); i += kBlock) totals[0] += balance[i];
  for (int64_t tile = threadIdx.x; tile < s.tiling.tiles; tile += kBlock) {
    for (int i = 0; i < 3; ++i) totals[i + 1] += parts[3 * tile + i];
  }
  sum_over_block(totals);
  if (threadIdx.x != 0) return;
  sums[0] = totals[0];
  sums[1] = s.z * totals[1];
  sums[2] = totals[2];
  sums[3] = totals[3];
}

// With dp_i = weight_i + dgate where i is chosen:  dlogits_i = p_i (dp_i - sum_j p_j dp_j) + 2 z log_sum_exp p_i
__device__ void differentiate_row(float* dlogits, const float* p, const double* weight, int32_t chosen, float dgate, float of_z, int64_t experts) {
  const auto dp = [&](int64_t e) { return static_cast<float>(weight[e]) + (e == chosen ? dgate : 0.0f); };
  float mean = 0;
  for (int64_t e = lane_number(); e < experts; e += kWarp) mean += p[e] * dp(e);
  mean = warp_sum(mean);
  for (int64_t e = lane_number(); e < experts; e += kWarp) dlogits[e] = p[e] * (dp(e) - mean) + of_z * p[e];
}

__global__ void __launch_bounds__(kBlock) differentiate_rows(float* dlogits, const float* dgate, const float* probabilities, const float* log_sum_exp,
                                                             const int32_t* expert, const double* weight, RoutedShape s) {
  for (int64_t t = warp_number(); t < s.tiling.items; t += warps_of_grid()) {
    float* row = dlogits + t * s.experts;
    const int32_t chosen = expert[t];
    if (chosen >= 0) {
      const float of_z = static_cast<float>(2 * s.z) * log_sum_exp[t];
      differentiate_row(row, probabilities + t * s.experts, weight + t / s.tiling.group_items * s.experts, chosen, dgate[t], of_z, s.experts);
    } else {
      for (int64_t e = lane_number(); e < s.experts; e += kWarp) row[e] = 0;
    }
  }
}

// ---- at the door

void check_shape(const RouterShape& s) { check(s.tokens >= 0 && s.experts > 0 && s.group_tokens > 0, "router: expected experts and a group size above 0"); }

RoutedShape check_saved(const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested, const RouterShape& s, double z) {
  check_shape(s);
  check_dense(probabilities, Dtype::kF32, s.tokens, s.experts, "router: expected probabilities [T, E], exact");
  check_vector(log_sum_exp, Dtype::kF32, s.tokens, "router: expected log_sum_exp [T], exact");
  check_vector(expert, Dtype::kI32, s.tokens, "router: expected expert [T] I32");
  check_dense(requested, Dtype::kI32, s.groups(), s.experts, "router: expected requested [G, E] I32");
  return {tiling_of(s.tokens, s.group_tokens), s.experts, s.groups(), z};
}

}  // namespace

void CudaBackend::router_forward(Out probabilities, Out log_sum_exp, Out expert, Out gate, const Tensor& logits, const Tensor& mask) {
  const int64_t tokens = logits.rows(), experts = logits.columns();
  check(experts > 0, "router_forward: expected logits [T, E]");
  check_dense(logits, Dtype::kF32, tokens, experts, "router_forward: expected contiguous logits [T, E], exact");
  check_dense(probabilities.tensor, Dtype::kF32, tokens, experts, "router_forward: expected probabilities like logits");
  check_vector(log_sum_exp.tensor, Dtype::kF32, tokens, "router_forward: expected log_sum_exp [T], exact");
  check_vector(expert.tensor, Dtype::kI32, tokens, "router_forward: expected expert [T] I32");
  check_vector(gate.tensor, Dtype::kF32, tokens, "router_forward: expected gate [T], exact");
  if (mask.exists()) check_vector(mask, Dtype::kI32, tokens, "router_forward: expected mask [T] I32");
  enqueue(&choose_experts, {blocks_for_rows(tokens), kBlock, 0, stream()}, data_of<float>(probabilities.tensor), data_of<float>(log_sum_exp.tensor),
          data_of<int32_t>(expert.tensor), data_of<float>(gate.tensor), data_of<float>(logits), data_of<int32_t>(mask), LogitsShape{tokens, experts});
}

void CudaBackend::assign_slots(Out requested, Out kept, Out slot, Out position, Out token, const Tensor& expert, const RouterShape& shape, const SlotRule& rule) {
  check_shape(shape);
  check(rule.fits(shape), "assign_slots: expected blocks that hold what an expert keeps, and rows that 32 bits number");
  check_dense(requested.tensor, Dtype::kI32, shape.groups(), shape.experts, "assign_slots: expected requested [G, E] I32");
  check_vector(kept.tensor, Dtype::kI32, shape.experts, "assign_slots: expected kept [E] I32");
  check_vector(slot.tensor, Dtype::kI32, shape.tokens, "assign_slots: expected slot [T] I32");
  check_vector(position.tensor, Dtype::kI32, shape.tokens, "assign_slots: expected position [T] I32");
  check_vector(token.tensor, Dtype::kI32, rule.rows(shape), "assign_slots: expected token I32 for every row of the list");
  check_vector(expert, Dtype::kI32, shape.tokens, "assign_slots: expected expert [T] I32");
  Pieces pieces;
  const Placing placing(tiling_of(shape.tokens, shape.group_tokens), shape.experts, rule, pieces);
  Places places;
  places.kept = data_of<int32_t>(kept.tensor);
  places.item = data_of<int32_t>(token.tensor);
  places.requested = data_of<int32_t>(requested.tensor);
  places.slot = data_of<int32_t>(slot.tensor);
  places.position = data_of<int32_t>(position.tensor);
  placing.run(stream(), workspace_.at_least(pieces.bytes()), data_of<int32_t>(expert), places);
}

void CudaBackend::router_losses(Out sums, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested,
                                const RouterShape& shape, const RouterLoss& loss) {
  const RoutedShape s = check_saved(probabilities, log_sum_exp, expert, requested, shape, loss.z);
  check_vector(sums.tensor, Dtype::kF64, kRouterSums, "router_losses: expected sums [4] F64");
  Pieces pieces;
  const auto weight = pieces.take<double>(s.groups * s.experts), mass = pieces.take<double>(s.tiling.tiles * s.experts);
  const auto parts = pieces.take<double>(3 * s.tiling.tiles), balance = pieces.take<double>(s.groups * s.chunks());
  void* memory = workspace_.at_least(pieces.bytes());
  enqueue(&weigh_experts, {blocks_for_rows(s.groups), kBlock, 0, stream()}, weight.in(memory), data_of<int32_t>(requested), s, loss.balance);
  enqueue(&sum_tiles, {blocks_for_jobs(s.tiling.tiles), kBlock, 0, stream()}, mass.in(memory), parts.in(memory), data_of<float>(probabilities),
          data_of<float>(log_sum_exp), data_of<int32_t>(expert), s);
  enqueue(&sum_groups, {blocks_for_jobs(s.groups * s.chunks()), kBlock, 0, stream()}, balance.in(memory), mass.in(memory), weight.in(memory), s);
  enqueue(&finish_losses, {1, kBlock, 0, stream()}, data_of<double>(sums.tensor), balance.in(memory), parts.in(memory), s);
}

void CudaBackend::router_backward(Out dlogits, const Tensor& dgate, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert,
                                  const Tensor& requested, const RouterShape& shape, const RouterLoss& loss) {
  const RoutedShape s = check_saved(probabilities, log_sum_exp, expert, requested, shape, loss.z);
  check_dense(dlogits.tensor, Dtype::kF32, shape.tokens, shape.experts, "router_backward: expected dlogits like probabilities");
  check_vector(dgate, Dtype::kF32, shape.tokens, "router_backward: expected dgate [T], exact");
  auto* weight = static_cast<double*>(workspace_.at_least(s.groups * s.experts * static_cast<int64_t>(sizeof(double))));
  enqueue(&weigh_experts, {blocks_for_rows(s.groups), kBlock, 0, stream()}, weight, data_of<int32_t>(requested), s, loss.balance);
  enqueue(&differentiate_rows, {blocks_for_rows(shape.tokens), kBlock, 0, stream()}, data_of<float>(dlogits.tensor), data_of<float>(dgate),
          data_of<float>(probabilities), data_of<float>(log_sum_exp), data_of<int32_t>(expert), weight, s);
}

}  // namespace switchyard::cuda
