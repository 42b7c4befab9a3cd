// Routing. Rows have one element per expert, a handful: plain loops, in order of tokens wherever something is summed.
#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

void check_shape(const RouterShape& s) { check(s.tokens >= 0 && s.experts > 0 && s.group_tokens > 0, "router: expected experts and a group size above 0"); }

void check_saved(const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested, const RouterShape& s) {
  check_shape(s);
  check_dense(probabilities, Dtype::kF32, s.tokens, s.experts, "router: expected probabilities [T, E], exact");
  check_vector(log_sum_exp, Dtype::kF32, s.tokens, "router: expected log_sum_exp [T], exact");
  check_vector(expert, Dtype::kI32, s.tokens, "router: expected expert [T] I32");
  check_dense(requested, Dtype::kI32, s.groups(), s.experts, "router: expected requested [G, E] I32");
}

// Tokens of group g that count: those that are not padding.
int64_t counted(const Tensor& requested, int64_t g) {
  int64_t total = 0;
  for (int64_t i = 0; i < requested.columns(); ++i) total += requested.row<int32_t>(g)[i];
  return total;
}

}  // namespace

void CpuBackend::router_forward(Out probabilities, Out log_sum_exp, Out expert, Out gate, const Tensor& logits, const Tensor& mask) {
  const int64_t tokens = logits.rows(), experts = logits.columns();
  check(experts > 0, "router_forward: expected logits [T, E]");
  check_dense(logits, Dtype::kF32, tokens, experts, "router_forward: expected contiguous logits [T, E], exact");
  check_dense(probabilities.tensor, Dtype::kF32, tokens, experts, "router_forward: expected probabilities like logits");
  check_vector(log_sum_exp.tensor, Dtype::kF32, tokens, "router_forward: expected log_sum_exp [T], exact");
  check_vector(expert.tensor, Dtype::kI32, tokens, "router_forward: expected expert [T] I32");
  check_vector(gate.tensor, Dtype::kF32, tokens, "router_forward: expected gate [T], exact");
  if (mask.exists()) check_vector(mask, Dtype::kI32, tokens, "router_forward: expected mask [T] I32");
  const int32_t* counts = mask.exists() ? mask.get<int32_t>() : nullptr;
  team_.run_pieces(tokens, rows_per_task(experts), [&](int64_t first, int64_t rows, int) {
    loops_.softmax(probabilities.tensor.row<float>(first), log_sum_exp.tensor.get<float>() + first, logits.row<float>(first), rows, experts);
    for (int64_t t = first; t < first + rows; ++t) {
      const float* p = probabilities.tensor.row<float>(t);
      const int64_t best = std::max_element(p, p + experts) - p;  // the first of equals
      const bool real = counts == nullptr || counts[t] != 0;
      expert.tensor.get<int32_t>()[t] = real ? static_cast<int32_t>(best) : -1;
      gate.tensor.get<float>()[t] = real ? p[best] : 0.0f;
    }
  });
}

void CpuBackend::assign_slots(Out requested, Out kept, Out slot, Out position, Out token, const Tensor& expert, const RouterShape& shape, const SlotRule& rule) {
  check_shape(shape);
  check(rule.fits(shape), "assign_slots: expected blocks that hold what an expert keeps, and rows that 32 bits number");
  check_dense(requested.tensor, Dtype::kI32, shape.groups(), shape.experts, "assign_slots: expected requested [G, E] I32");
  check_vector(kept.tensor, Dtype::kI32, shape.experts, "assign_slots: expected kept [E] I32");
  check_vector(slot.tensor, Dtype::kI32, shape.tokens, "assign_slots: expected slot [T] I32");
  check_vector(position.tensor, Dtype::kI32, shape.tokens, "assign_slots: expected position [T] I32");
  check_vector(token.tensor, Dtype::kI32, rule.rows(shape), "assign_slots: expected token I32 for every row of the list");
  check_vector(expert, Dtype::kI32, shape.tokens, "assign_slots: expected expert [T] I32");
  zero(requested);
  zero(kept);
  const int32_t* chosen = expert.get<int32_t>();
  int32_t* slots = slot.tensor.get<int32_t>();
  int32_t* kept_rows = kept.tensor.get<int32_t>();
  for (int64_t t = 0; t < shape.tokens; ++t) {
    const int32_t e = chosen[t];
    check(e < shape.experts, "assign_slots: an expert that does not exist");
    slots[t] = -1;
    if (e < 0) continue;
    const int32_t place = requested.tensor.row<int32_t>(t / shape.group_tokens)[e]++;
    if (place < rule.capacity) slots[t] = kept_rows[e]++;
  }
  std::vector<int32_t> first(static_cast<size_t>(shape.experts) + 1, 0);  // row of each expert's slot 0
  for (size_t e = 0; e + 1 < first.size(); ++e) first[e + 1] = first[e] + (rule.block > 0 ? static_cast<int32_t>(rule.block) : kept_rows[e]);
  std::fill_n(token.tensor.get<int32_t>(), rule.rows(shape), -1);
  for (int64_t t = 0; t < shape.tokens; ++t) {
    const int32_t row = slots[t] < 0 ? -1 : first[static_cast<size_t>(chosen[t])] + slots[t];
    position.tensor.get<int32_t>()[t] = row;
    if (row >= 0) token.tensor.get<int32_t>()[row] = static_cast<int32_t>(t);
  }
}

void CpuBackend::router_losses(Out sums, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested,
                               const RouterShape& shape, const RouterLoss& loss) {
  check_saved(probabilities, log_sum_exp, expert, requested, shape);
  check_vector(sums.tensor, Dtype::kF64, kRouterSums, "router_losses: expected sums [4] F64");
  const int32_t* chosen = expert.get<int32_t>();
  double balance = 0, z = 0, entropy = 0, gate = 0;
  std::vector<double> mass(static_cast<size_t>(shape.experts));
  for (int64_t g = 0; g < shape.groups(); ++g) {
    std::fill(mass.begin(), mass.end(), 0.0);
    for (int64_t t = g * shape.group_tokens; t < std::min((g + 1) * shape.group_tokens, shape.tokens); ++t) {
      if (chosen[t] < 0) continue;
      const float* p = probabilities.row<float>(t);
      const auto total = static_cast<double>(log_sum_exp.get<float>()[t]);
      z += total * total;
      gate += static_cast<double>(p[chosen[t]]);
      entropy += loops_.entropy(p, shape.experts);
      for (int64_t i = 0; i < shape.experts; ++i) mass[static_cast<size_t>(i)] += static_cast<double>(p[i]);
    }
    const auto count = static_cast<double>(counted(requested, g));
    for (int64_t i = 0; count > 0 && i < shape.experts; ++i) balance += requested.row<int32_t>(g)[i] / count * (mass[static_cast<size_t>(i)] / count);
  }
  double* result = sums.tensor.get<double>();
  result[0] = loss.balance * balance;
  result[1] = loss.z * z;
  result[2] = entropy;
  result[3] = gate;
}

void CpuBackend::router_backward(Out dlogits, const Tensor& dgate, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert,
                                 const Tensor& requested, const RouterShape& shape, const RouterLoss& loss) {
  check_saved(probabilities, log_sum_exp, expert, requested, shape);
  check_dense(dlogits.tensor, Dtype::kF32, shape.tokens, shape.experts, "router_backward: expected dlogits like probabilities");
  check_vector(dgate, Dtype::kF32, shape.tokens, "router_backward: expected dgate [T], exact");
  // balance f_i / count of each group and expert, with f_i = requested_i / count held constant
  std::vector<float> push(static_cast<size_t>(shape.groups() * shape.experts), 0.0f);
  for (int64_t g = 0; g < shape.groups(); ++g) {
    const auto count = static_cast<double>(counted(requested, g));
    for (int64_t i = 0; count > 0 && i < shape.experts; ++i) {
      push[static_cast<size_t>(g * shape.experts + i)] = static_cast<float>(loss.balance * (requested.row<int32_t>(g)[i] / count) / count);
    }
  }
  team_.run_pieces(shape.tokens, rows_per_task(shape.experts), [&](int64_t first, int64_t rows, int) {
    for (int64_t t = first; t < first + rows; ++t) {
      const int32_t chosen = expert.get<int32_t>()[t];
      float* d = dlogits.tensor.row<float>(t);
      if (chosen < 0) {
        std::fill_n(d, shape.experts, 0.0f);
        continue;
      }
      const float* p = probabilities.row<float>(t);
      const float* balance = push.data() + t / shape.group_tokens * shape.experts;
      float mean = 0;  // sum_i p_i dp_i
      for (int64_t i = 0; i < shape.experts; ++i) {
        d[i] = i == chosen ? balance[i] + dgate.get<float>()[t] : balance[i];
        mean += p[i] * d[i];
      }
      const float z = static_cast<float>(2 * loss.z) * log_sum_exp.get<float>()[t];
      for (int64_t i = 0; i < shape.experts; ++i) d[i] = p[i] * (d[i] - mean) + z * p[i];
    }
  });
}

}  // namespace switchyard::cpu
