#include "src/layers/loss.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace switchyard {
namespace {

void multiply(Context& ctx, const Tensor& x, const PackedMatrix& matrix, Out y) {
  Product product;
  product.x = x;
  product.matrix = &matrix;
  product.y = y;
  ctx.backend.multiply({&product, 1});
}

}  // namespace

void LossLayer::scale_rows(Context& ctx, const Tensor& x, Target y) const {
  const int64_t n = x.rows();
  check(n <= kRows, "LossLayer::scale_rows: more rows than a chunk has");
  std::array<int32_t, kRows> row{};
  std::iota(row.begin(), row.end(), 0);
  const Arena::Mark mark(ctx.scratch);
  const Tensor index = ctx.temporary(Dtype::kI32, {n, 1});
  const Tensor factor = ctx.temporary(ctx.precision.exact, {n, 1});
  ctx.backend.copy_from_host(row.data(), Out(index));
  if (factor.dtype() == Dtype::kF64) {
    std::array<double, kRows> values{};
    values.fill(head_scale);
    ctx.backend.copy_from_host(values.data(), Out(factor));
  } else {
    std::array<float, kRows> values{};
    values.fill(static_cast<float>(head_scale));
    ctx.backend.copy_from_host(values.data(), Out(factor));
  }
  ctx.backend.gather_rows(y, x, index, factor);
}

Tensor LossLayer::scaled(Context& ctx, const Tensor& h) const {
  if (head_scale == 1) return h;
  const Tensor result = ctx.temporary(ctx.precision.activation, h.shape());
  scale_rows(ctx, h, Out(result));
  return result;
}

Tensor LossLayer::chunk_logits(Context& ctx, const Tensor& scaled_h, const Parameter& table, Dtype dtype) const {
  const Tensor logits = ctx.temporary(dtype, {scaled_h.rows(), table.rows()});
  multiply(ctx, scaled_h, table.forward, Out(logits));
  return logits;
}

Tensor LossLayer::backward(Context& ctx, const Tensor& h, const Tensor& targets, const Parameter& table, double scale, Saved& saved, Gradients& grads) const {
  const Span span(ctx.trace, SpanKind::kCompute, "loss");
  const Tensor dh = ctx.temporary(ctx.precision.activation, h.shape());
  saved.loss = ctx.keep(Dtype::kF64, {1});
  const CrossEntropy options{.scale = scale, .z = z, .gradient = true};
  Target dtable = grads.target(table);
  Target total = Out(saved.loss);

  // One chunk at least: an empty micro-batch still writes its zeros.
  for (int64_t first = 0; first == 0 || first < h.rows(); first += kRows) {
    const Arena::Mark mark(ctx.scratch);
    const int64_t n = std::min(kRows, h.rows() - first);
    const Tensor chunk = scaled(ctx, h.slice_rows(first, n));
    const Tensor logits = chunk_logits(ctx, chunk, table, ctx.precision.activation);
    const Tensor row_loss = ctx.temporary(ctx.precision.exact, {n});
    const Tensor correct = ctx.temporary(Dtype::kI32, {n});
    ctx.backend.cross_entropy(logits, Out(row_loss), Out(correct), targets.slice_rows(first, n), options);
    ctx.backend.sum(total, row_loss);

    const OuterProduct outer{.dy = logits, .x = chunk, .dw = dtable};  // logits are their own gradient by now
    ctx.backend.multiply_outer({&outer, 1});
    const Tensor dchunk = dh.slice_rows(first, n);
    const Tensor dscaled = head_scale == 1 ? dchunk : ctx.temporary(ctx.precision.exact, dchunk.shape());
    multiply(ctx, logits, table.backward, Out(dscaled));
    if (head_scale != 1) scale_rows(ctx, dscaled, Out(dchunk));
    dtable.add = total.add = true;
  }
  grads.done(table);
  return dh;
}

void LossLayer::evaluate(Context& ctx, const Tensor& h, const Tensor& targets, const Parameter& table, Out loss, Out correct) const {
  const Span span(ctx.trace, SpanKind::kCompute, "loss.evaluate");
  const CrossEntropy options{.scale = 1, .z = 0, .gradient = false};
  for (int64_t first = 0; first < h.rows(); first += kRows) {
    const Arena::Mark mark(ctx.scratch);
    const int64_t n = std::min(kRows, h.rows() - first);
    const Tensor logits = chunk_logits(ctx, scaled(ctx, h.slice_rows(first, n)), table, ctx.precision.activation);
    ctx.backend.cross_entropy(logits, Out(loss.tensor.slice_rows(first, n)), Out(correct.tensor.slice_rows(first, n)), targets.slice_rows(first, n), options);
  }
}

Tensor LossLayer::logits(Context& ctx, const Tensor& h, const Parameter& table) const {
  const Span span(ctx.trace, SpanKind::kCompute, "logits");
  return chunk_logits(ctx, scaled(ctx, h), table, ctx.precision.exact);
}

}  // namespace switchyard
