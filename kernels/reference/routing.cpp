#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

void check_shape(const RouterShape& s) { check(s.tokens >= 0 && s.experts > 0 && s.group_tokens > 0, "router: expected experts and a group size above 0"); }

// Tokens of group g that count: those that are not padding.
int64_t counted(const Tensor& requested, int64_t g) {
  int64_t total = 0;
  for (int64_t i = 0; i < requested.columns(); ++i) total += requested.row<int32_t>(g)[i];
  return total;
}

// Returns the logsumexp of the row.
template <class T>
T softmax(T* p, const T* logits, int64_t n) {
  const T largest = *std::max_element(logits, logits + n);
  T total = 0;
  for (int64_t i = 0; i < n; ++i) {
    p[i] = std::exp(logits[i] - largest);
    total += p[i];
  }
  for (int64_t i = 0; i < n; ++i) p[i] /= total;
  return largest + std::log(total);
}

// sum_i f_i P_i of one group with `count` > 0 tokens that count.
template <class T>
double balance_of_group(const Tensor& p, const Tensor& expert, const int32_t* requested, int64_t first, int64_t last, double count) {
  double total = 0;
  for (int64_t i = 0; i < p.columns(); ++i) {
    double mass = 0;
    for (int64_t t = first; t < last; ++t) {
      if (expert.get<int32_t>()[t] >= 0) mass += static_cast<double>(p.row<T>(t)[i]);
    }
    total += requested[i] / count * (mass / count);
  }
  return total;
}

void check_saved(const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested, const RouterShape& s) {
  check_shape(s);
  check_dense(probabilities, probabilities.dtype(), s.tokens, s.experts, "router: expected probabilities [T, E], exact");
  check_vector(log_sum_exp, probabilities.dtype(), s.tokens, "router: expected log_sum_exp [T], exact");
  check_vector(expert, Dtype::kI32, s.tokens, "router: expected expert [T] I32");
  check_dense(requested, Dtype::kI32, s.groups(), s.experts, "router: expected requested [G, E] I32");
}

}  // namespace

void ReferenceBackend::router_forward(Out probabilities, Out log_sum_exp, Out expert, Out gate, const Tensor& logits, const Tensor& mask) {
  const int64_t tokens = logits.rows(), experts = logits.columns();
  check(logits.contiguous() && experts > 0, "router_forward: expected contiguous logits [T, E], exact");
  check_dense(probabilities.tensor, logits.dtype(), tokens, experts, "router_forward: expected probabilities like logits");
  check_vector(log_sum_exp.tensor, logits.dtype(), tokens, "router_forward: expected log_sum_exp [T], exact");
  check_vector(expert.tensor, Dtype::kI32, tokens, "router_forward: expected expert [T] I32");
  check_vector(gate.tensor, logits.dtype(), tokens, "router_forward: expected gate [T], exact");
  if (mask.exists()) check_vector(mask, Dtype::kI32, tokens, "router_forward: expected mask [T] I32");
  with_exact(logits.dtype(), [&]<class T>() {
    for (int64_t t = 0; t < tokens; ++t) {
      T* p = probabilities.tensor.row<T>(t);
      log_sum_exp.tensor.get<T>()[t] = softmax(p, logits.row<T>(t), experts);
      const bool counts = !mask.exists() || mask.get<int32_t>()[t] != 0;
      const int64_t best = std::max_element(p, p + experts) - p;  // the first of equals
      expert.tensor.get<int32_t>()[t] = counts ? static_cast<int32_t>(best) : -1;
      gate.tensor.get<T>()[t] = counts ? p[best] : T{0};
    }
  });
}

void ReferenceBackend::assign_slots(Out requested, Out kept, Out slot, Out position, Out token, const Tensor& expert, const RouterShape& shape, const SlotRule& rule) {
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
  for (int64_t t = 0; t < shape.tokens; ++t) {
    const int32_t e = expert.get<int32_t>()[t];
    check(e < shape.experts, "assign_slots: an expert that does not exist");
    slot.tensor.get<int32_t>()[t] = -1;
    if (e < 0) continue;
    const int32_t place = requested.tensor.row<int32_t>(t / shape.group_tokens)[e]++;
    if (place < rule.capacity) slot.tensor.get<int32_t>()[t] = kept.tensor.get<int32_t>()[e]++;
  }
  std::vector<int32_t> first(static_cast<size_t>(shape.experts) + 1, 0);  // row of each expert's slot 0
  for (size_t e = 0; e + 1 < first.size(); ++e) {
    first[e + 1] = first[e] + (rule.block > 0 ? static_cast<int32_t>(rule.block) : kept.tensor.get<int32_t>()[e]);
  }
  std::fill_n(token.tensor.get<int32_t>(), rule.rows(shape), -1);
  for (int64_t t = 0; t < shape.tokens; ++t) {
    const int32_t s = slot.tensor.get<int32_t>()[t];
    const int32_t row = s < 0 ? -1 : first[static_cast<size_t>(expert.get<int32_t>()[t])] + s;
    position.tensor.get<int32_t>()[t] = row;
    if (row >= 0) token.tensor.get<int32_t>()[row] = static_cast<int32_t>(t);
  }
}

void ReferenceBackend::router_losses(Out sums, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert, const Tensor& requested,
                                     const RouterShape& shape, const RouterLoss& loss) {
  check_saved(probabilities, log_sum_exp, expert, requested, shape);
  check_vector(sums.tensor, Dtype::kF64, kRouterSums, "router_losses: expected sums [4] F64");
  with_exact(probabilities.dtype(), [&]<class T>() {
    double balance = 0, z = 0, entropy = 0, gate = 0;
    for (int64_t g = 0; g < shape.groups(); ++g) {
      const int64_t first = g * shape.group_tokens, last = std::min(first + shape.group_tokens, shape.tokens);
      const int64_t count = counted(requested, g);
      if (count > 0) balance += balance_of_group<T>(probabilities, expert, requested.row<int32_t>(g), first, last, static_cast<double>(count));
    }
    for (int64_t t = 0; t < shape.tokens; ++t) {
      const int32_t e = expert.get<int32_t>()[t];
      if (e < 0) continue;
      const double total = static_cast<double>(log_sum_exp.get<T>()[t]);
      z += total * total;
      gate += static_cast<double>(probabilities.row<T>(t)[e]);
      for (int64_t i = 0; i < shape.experts; ++i) {
        const double p = static_cast<double>(probabilities.row<T>(t)[i]);
        if (p > 0) entropy -= p * std::log(p);
      }
    }
    double* result = sums.tensor.get<double>();
    result[0] = loss.balance * balance;
    result[1] = loss.z * z;
    result[2] = entropy;
    result[3] = gate;
  });
}

void ReferenceBackend::router_backward(Out dlogits, const Tensor& dgate, const Tensor& probabilities, const Tensor& log_sum_exp, const Tensor& expert,
                                       const Tensor& requested, const RouterShape& shape, const RouterLoss& loss) {
  check_saved(probabilities, log_sum_exp, expert, requested, shape);
  check_dense(dlogits.tensor, probabilities.dtype(), shape.tokens, shape.experts, "router_backward: expected dlogits like probabilities");
  check_vector(dgate, probabilities.dtype(), shape.tokens, "router_backward: expected dgate [T], exact");
  zero(dlogits);
  with_exact(probabilities.dtype(), [&]<class T>() {
    for (int64_t t = 0; t < shape.tokens; ++t) {
      const int32_t chosen = expert.get<int32_t>()[t];
      if (chosen < 0) continue;
      const int64_t g = t / shape.group_tokens;
      const double count = static_cast<double>(counted(requested, g));
      const T* p = probabilities.row<T>(t);
      // dp_i = [i is chosen] dgate + balance f_i / count, with f_i = requested_i / count held constant
      const auto dp = [&](int64_t i) {
        const T balance = static_cast<T>(loss.balance * (requested.row<int32_t>(g)[i] / count) / count);
        return i == chosen ? balance + dgate.get<T>()[t] : balance;
      };
      T mean = 0;
      for (int64_t i = 0; i < shape.experts; ++i) mean += p[i] * dp(i);
      const T z = static_cast<T>(2 * loss.z) * log_sum_exp.get<T>()[t];
      for (int64_t i = 0; i < shape.experts; ++i) dlogits.tensor.row<T>(t)[i] = p[i] * (dp(i) - mean) + z * p[i];
    }
  });
}

}  // namespace switchyard::reference
