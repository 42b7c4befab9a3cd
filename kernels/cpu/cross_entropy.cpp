#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {

void CpuBackend::cross_entropy(Tensor logits, Out loss, Out correct, const Tensor& targets, const CrossEntropy& options) {
  const int64_t n = logits.rows(), vocabulary = logits.columns();
  check_activation(logits, "cross_entropy: expected F32 or BF16");
  check(logits.contiguous() && vocabulary > 0, "cross_entropy: expected contiguous logits [n, N]");
  check_vector(loss.tensor, Dtype::kF32, n, "cross_entropy: expected loss [n], exact");
  check_vector(correct.tensor, Dtype::kI32, n, "cross_entropy: expected correct [n] I32");
  check_vector(targets, Dtype::kI32, n, "cross_entropy: expected targets [n] I32");
  for (int64_t r = 0; r < n; ++r) check(targets.get<int32_t>()[r] < vocabulary, "cross_entropy: a target outside the vocabulary");
  team_.reserve(round_up(vocabulary, 16) * static_cast<int64_t>(sizeof(float)));
  team_.run_pieces(n, rows_per_task(vocabulary), [&](int64_t first, int64_t rows, int thread) {
    for (int64_t r = first; r < first + rows; ++r) {
      CrossEntropyRow row{};
      row.row = address(logits, r);
      row.dtype = logits.dtype();
      row.columns = vocabulary;
      row.target = targets.get<int32_t>()[r];
      row.scratch = reinterpret_cast<float*>(team_.scratch(thread));
      row.scale = static_cast<float>(options.scale);
      row.z = static_cast<float>(options.z);
      row.gradient = options.gradient;
      row.loss = loss.tensor.get<float>() + r;
      row.correct = correct.tensor.get<int32_t>() + r;
      if (row.target >= 0) {
        loops_.cross_entropy_row(row);
        continue;
      }
      *row.loss = 0;
      *row.correct = 0;
      if (options.gradient) std::memset(row.row, 0, static_cast<size_t>(vocabulary * size_of(logits.dtype())));
    }
  });
}

}  // namespace switchyard::cpu
