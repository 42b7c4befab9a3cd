#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/support.h"

namespace switchyard::cpu {
namespace {

constexpr int64_t kBlockRows = 64;  // rows whose part of dscale and dbias is summed by itself

void check_norm(const Tensor& x, const Tensor& like, const Tensor& statistics, const Tensor& scale, const char* sentence) {
  check_activation(x, sentence);
  check(x.columns() > 0, sentence);
  check_dense(x, x.dtype(), x.rows(), x.columns(), sentence);
  check_dense(like, x.dtype(), x.rows(), x.columns(), sentence);
  check_dense(statistics, Dtype::kF32, x.rows(), 2, sentence);
  check_vector(scale, Dtype::kF32, x.columns(), sentence);
}

NormRows rows_of(const Tensor& x, const Tensor& scale, const Norm& norm, int64_t rows) {
  NormRows args{};
  args.dtype = x.dtype();
  args.centered = norm.kind == NormKind::kLayerNorm;
  args.epsilon = static_cast<float>(norm.epsilon);
  args.rows = rows;
  args.columns = x.columns();
  args.scale = scale.get<float>();
  return args;
}

}  // namespace

void CpuBackend::norm_forward(Out y, Out statistics, const Tensor& x, const Tensor& scale, const Tensor& bias, const Norm& norm) {
  check_norm(x, y.tensor, statistics.tensor, scale, "norm_forward: expected x and y [n, D] activation, statistics [n, 2] and scale [D] exact");
  if (bias.exists()) check_vector(bias, Dtype::kF32, x.columns(), "norm_forward: expected bias [D], exact");
  team_.run_pieces(x.rows(), rows_per_task(x.columns()), [&](int64_t first, int64_t rows, int) {
    NormRows args = rows_of(x, scale, norm, rows);
    args.x = address(x, first);
    args.y = address(y.tensor, first);
    args.statistics = statistics.tensor.row<float>(first);
    args.bias = bias.exists() ? bias.get<float>() : nullptr;
    loops_.norm_forward(args);
  });
}

void CpuBackend::norm_backward(Target dx, Target dscale, Target dbias, const Tensor& dy, const Tensor& x, const Tensor& statistics, const Tensor& scale,
                               const Norm& norm) {
  const int64_t n = x.rows(), width = x.columns(), blocks = divide_up(n, kBlockRows);
  check_norm(x, dx.tensor, statistics, scale, "norm_backward: expected x and dx [n, D] activation, statistics [n, 2] and scale [D] exact");
  check_dense(dy, x.dtype(), n, width, "norm_backward: expected dy like x");
  check_vector(dscale.tensor, Dtype::kF32, width, "norm_backward: expected dscale [D], exact");
  const bool has_bias = dbias.tensor.exists();
  if (has_bias) check_vector(dbias.tensor, Dtype::kF32, width, "norm_backward: expected dbias [D], exact");
  const int64_t bytes = 2 * blocks * width * static_cast<int64_t>(sizeof(float));
  grow(shared_, bytes);
  auto* parts = static_cast<float*>(shared_.data());  // [2, blocks, width]
  team_.run_pieces(n, kBlockRows, [&](int64_t first, int64_t rows, int) {
    NormRows args = rows_of(x, scale, norm, rows);
    args.x = address(x, first);
    args.dy = address(dy, first);
    args.dx = address(dx.tensor, first);
    args.add = dx.add;
    args.statistics = statistics.row<float>(first);
    args.dscale = parts + first / kBlockRows * width;
    args.dbias = has_bias ? parts + (blocks + first / kBlockRows) * width : nullptr;
    loops_.norm_backward(args);
  });
  loops_.sum_columns(dscale.tensor.get<float>(), parts, Dtype::kF32, blocks, width, width, dscale.add);
  if (has_bias) loops_.sum_columns(dbias.tensor.get<float>(), parts + blocks * width, Dtype::kF32, blocks, width, width, dbias.add);
}

}  // namespace switchyard::cpu
