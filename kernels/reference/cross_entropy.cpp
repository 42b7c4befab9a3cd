#include <algorithm>
#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/support.h"

namespace switchyard::reference {
namespace {

template <class T>
T log_sum_exp_of(const T* row, int64_t n) {
  const T largest = *std::max_element(row, row + n);
  T total = 0;
  for (int64_t c = 0; c < n; ++c) total += std::exp(row[c] - largest);
  return largest + std::log(total);
}

template <class T>
void cross_entropy_row(T* row, int64_t n, int64_t target, T& loss, int32_t& correct, const CrossEntropy& options) {
  loss = 0;
  correct = 0;
  if (target < 0) {
    if (options.gradient) std::fill_n(row, n, T{0});
    return;
  }
  check(target < n, "cross_entropy: a target outside the vocabulary");
  const T scale = static_cast<T>(options.scale), z = static_cast<T>(options.z);
  const T total = log_sum_exp_of(row, n);  // Z
  loss = scale * (total - row[target] + z * total * total);
  correct = std::max_element(row, row + n) - row == target ? 1 : 0;  // the first of equals
  if (!options.gradient) return;
  const T factor = scale * (T{1} + T{2} * z * total);
  for (int64_t c = 0; c < n; ++c) row[c] = factor * std::exp(row[c] - total) - (c == target ? scale : T{0});
}

}  // namespace

void ReferenceBackend::cross_entropy(Tensor logits, Out loss, Out correct, const Tensor& targets, const CrossEntropy& options) {
  const int64_t n = logits.rows();
  check(logits.contiguous() && logits.columns() > 0, "cross_entropy: expected contiguous logits [n, N]");
  check_vector(loss.tensor, logits.dtype(), n, "cross_entropy: expected loss [n], exact");
  check_vector(correct.tensor, Dtype::kI32, n, "cross_entropy: expected correct [n] I32");
  check_vector(targets, Dtype::kI32, n, "cross_entropy: expected targets [n] I32");
  with_exact(logits.dtype(), [&]<class T>() {
    for (int64_t r = 0; r < n; ++r) {
      cross_entropy_row<T>(logits.row<T>(r), logits.columns(), targets.get<int32_t>()[r], loss.tensor.get<T>()[r], correct.tensor.get<int32_t>()[r], options);
    }
  });
}

}  // namespace switchyard::reference
