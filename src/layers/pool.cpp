#include "src/layers/pool.h"

#include <numeric>
#include <vector>

namespace switchyard {

Tensor PoolLayer::weights(Context& ctx, const Tensor& mask, int64_t sequences, int64_t length) const {
  std::vector<int32_t> counts(static_cast<size_t>(sequences * length), 1);
  if (mask.exists() && !padding) ctx.backend.copy_to_host(mask, counts.data());
  std::vector<double> host(counts.size());
  for (size_t first = 0; first < counts.size(); first += static_cast<size_t>(length)) {
    int64_t rows = 0;
    for (size_t i = first; i < first + static_cast<size_t>(length); ++i) rows += counts[i] != 0 ? 1 : 0;
    for (size_t i = first; i < first + static_cast<size_t>(length); ++i) host[i] = counts[i] != 0 ? 1 / static_cast<double>(rows) : 0;
  }
  const Tensor weight = ctx.keep(ctx.precision.exact, {sequences, length});
  const Arena::Mark mark(ctx.scratch);
  const Tensor wide = ctx.temporary(Dtype::kF64, weight.shape());
  ctx.backend.copy_from_host(host.data(), Out(wide));
  ctx.backend.convert(Out(weight), wide);
  return weight;
}

// y[b] = sum over i of weight[b, i] x[b S + i]
Tensor PoolLayer::forward(Context& ctx, const Tensor& x, int64_t length, const Tensor& mask, Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "pool");
  check(length > 0 && x.rows() % length == 0, "PoolLayer::forward: rows are not whole sequences");
  const int64_t sequences = x.rows() / length;
  const Tensor y = ctx.temporary(ctx.precision.activation, {sequences, x.columns()});
  saved = {.weight = weights(ctx, mask, sequences, length), .sequences = sequences, .length = length};
  const Arena::Mark mark(ctx.scratch);
  std::vector<int32_t> rows(static_cast<size_t>(x.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  const Tensor index = ctx.temporary(Dtype::kI32, {sequences, length});
  ctx.backend.copy_from_host(rows.data(), Out(index));
  ctx.backend.gather_rows(Out(y), x, index, saved.weight);
  return y;
}

// dx[b S + i] = weight[b, i] dy[b]
Tensor PoolLayer::backward(Context& ctx, const Tensor& dy, const Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "pool.backward");
  const int64_t rows = saved.sequences * saved.length;
  const Tensor dx = ctx.temporary(ctx.precision.activation, {rows, dy.columns()});
  const Arena::Mark mark(ctx.scratch);
  std::vector<int32_t> sequence(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) sequence[static_cast<size_t>(row)] = static_cast<int32_t>(row / saved.length);
  const Tensor index = ctx.temporary(Dtype::kI32, {rows, 1});
  ctx.backend.copy_from_host(sequence.data(), Out(index));
  ctx.backend.gather_rows(Out(dx), dy, index, saved.weight.reshape({rows, 1}));
  return dx;
}

}  // namespace switchyard
