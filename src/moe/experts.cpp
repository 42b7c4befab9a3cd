#include "src/moe/experts.h"

#include "src/base/checked.h"
#include "src/layers/initializers.h"

namespace switchyard {
namespace {

Parameter expert_parameter(const std::string& name, Shape shape, int layer, int expert, int sliceable_axis) {
  Parameter parameter;
  parameter.name = name;
  parameter.shape = shape;
  parameter.kind = ParameterKind::kExpert;
  parameter.moe_layer = layer;
  parameter.expert = expert;
  parameter.sliceable_axis = sliceable_axis;
  return parameter;
}

Parameter weight(Parameter parameter, double scale) {
  parameter.initializer = scaled_fan_in(scale, parameter.columns());
  parameter.forms = {.packed_forward = true, .packed_backward = true};
  return parameter;
}

Parameter bias(Parameter parameter) {
  parameter.decay = false;
  parameter.initializer = zeros();
  parameter.forms = {.plain_exact = true};
  return parameter;
}

Tensor rows_of(const Tensor& x, const Piece& piece) { return x.slice_rows(piece.first_row, piece.rounded()); }

// A product whose operands are the rows of one piece.
Product product_of(const Piece& piece, const Tensor& x, const PackedMatrix& matrix, const Target& y) {
  Product product;
  product.x = rows_of(x, piece);
  product.matrix = &matrix;
  product.y = {rows_of(y.tensor, piece), y.add};
  return product;
}

}  // namespace

Experts::Experts(const std::string& prefix, int layer, const MoeShape& shape, const MoeOptions& options)
    : layer_(layer), shape_(shape), dropout_(options.expert_dropout) {
  for (int e = 0; e < options.experts; ++e) {
    const std::string name = prefix + ".expert." + std::to_string(e);
    Expert& expert = experts_.emplace_back();
    expert.in = weight(expert_parameter(name + ".in.weight", {shape.feed_forward, shape.width}, layer, e, 0), shape.initializer_scale);
    if (shape.gated) {
      expert.gate = weight(expert_parameter(name + ".gate.weight", {shape.feed_forward, shape.width}, layer, e, 0), shape.initializer_scale);
    }
    expert.out = weight(expert_parameter(name + ".out.weight", {shape.width, shape.feed_forward}, layer, e, 1), shape.initializer_scale);
    if (!shape.bias) continue;
    expert.in_bias = bias(expert_parameter(name + ".in.bias", {shape.feed_forward}, layer, e, 0));
    if (shape.gated) expert.gate_bias = bias(expert_parameter(name + ".gate.bias", {shape.feed_forward}, layer, e, 0));
    expert.out_bias = bias(expert_parameter(name + ".out.bias", {shape.width}, layer, e, -1));
  }
}

void Experts::visit(const ParameterVisitor& visitor) {
  for (Expert& expert : experts_) {
    visitor(expert.in);
    if (shape_.bias) visitor(expert.in_bias);
    if (shape_.gated) visitor(expert.gate);
    if (shape_.gated && shape_.bias) visitor(expert.gate_bias);
    visitor(expert.out);
    if (shape_.bias) visitor(expert.out_bias);
  }
}

// Calls visit_block(expert, replica, first row, rows rounded up) for every block with rows, copies outside, lanes inside.
template <class Visitor>
void Experts::for_each_block(const RowTable& table, Visitor visit_block) const {
  for (int copy = 0; copy < table.copies; ++copy) {
    const Expert& expert = experts_[static_cast<size_t>(table.expert(copy))];
    for (int lane = 0; lane < table.lanes; ++lane) {
      const size_t block = table.block(copy, lane);
      if (table.count[block] == 0) continue;
      visit_block(expert, table.replica(copy), table.offset[block], round_up(table.count[block], kRowMultiple));
    }
  }
}

// Calls visit_rows(first row, rows, dropout) for rows that draw from one dropout: piece by piece where there is one.
template <class Visitor>
void Experts::for_each_dropout(const Context& ctx, const Chunk& chunk, Visitor visit_rows) const {
  if (dropout_rate(ctx) == 0) return for_each_run(chunk, [&](int64_t first, int64_t rows) { visit_rows(first, rows, Dropout{}); });
  for (const Piece& piece : chunk.pieces) visit_rows(piece.first_row, piece.rounded(), dropout(ctx, piece));
}

Dropout Experts::dropout(const Context& ctx, const Piece& piece) const {
  if (dropout_rate(ctx) == 0) return {};
  const uint64_t index = expert_index(static_cast<uint64_t>(piece.lane), static_cast<uint64_t>(ctx.key.accumulation), static_cast<uint64_t>(piece.expert),
                                      static_cast<uint64_t>(piece.first_slot));
  return {dropout_rate(ctx), Random(ctx.key.seed, Purpose::kExpertDropout, static_cast<uint32_t>(layer_), ctx.key.step, index)};
}

void Experts::begin_forward(Context& ctx, const Rows& arrived, Saved& saved) const {
  const RowTable& table = *arrived.table;
  const auto room = [&] { return ctx.keep(ctx.precision.activation, {table.room, shape_.feed_forward}).slice_rows(0, table.rows); };
  saved.arrived = arrived;
  saved.hidden = room();
  saved.u = is_relu() ? Tensor{} : room();
  saved.g = shape_.gated ? room() : Tensor{};
}

void Experts::forward_hidden(Context& ctx, const Chunk& chunk, const Saved& saved) const {
  const Span span(ctx.trace, SpanKind::kCompute, "experts", layer_);
  products_.clear();
  for (const Piece& piece : chunk.pieces) {
    const Expert& expert = experts_[static_cast<size_t>(piece.expert)];
    Product product = product_of(piece, saved.arrived.buffer, expert.in.forward, Out(is_relu() ? saved.hidden : saved.u));
    product.bias = expert.in_bias.plain;
    product.relu = is_relu();
    if (is_relu()) product.dropout = dropout(ctx, piece);
    products_.push_back(product);
    if (!shape_.gated) continue;
    Product gate = product_of(piece, saved.arrived.buffer, expert.gate.forward, Out(saved.g));
    gate.bias = expert.gate_bias.plain;
    products_.push_back(gate);
  }
  ctx.backend.multiply(products_);
  if (is_relu()) return;
  for_each_dropout(ctx, chunk, [&](int64_t first, int64_t rows, const Dropout& drop) {
    const Tensor g = shape_.gated ? saved.g.slice_rows(first, rows) : Tensor{};
    ctx.backend.activate(Out(saved.hidden.slice_rows(first, rows)), saved.u.slice_rows(first, rows), g, shape_.activation, drop);
  });
}

void Experts::forward_output(Context& ctx, const Chunk& chunk, const Saved& saved, const Tensor& processed) const {
  const Span span(ctx.trace, SpanKind::kCompute, "experts", layer_);
  products_.clear();
  for (const Piece& piece : chunk.pieces) {
    const Expert& expert = experts_[static_cast<size_t>(piece.expert)];
    Product product = product_of(piece, saved.hidden, expert.out.forward, Out(processed));
    product.bias = expert.out_bias.plain;
    products_.push_back(product);
  }
  ctx.backend.multiply(products_);
}

Experts::Backward Experts::begin_backward(Context& ctx, const Rows& dprocessed) const {
  const RowTable& table = *dprocessed.table;
  const auto room = [&] { return ctx.temporary(ctx.precision.activation, {table.room, shape_.feed_forward}).slice_rows(0, table.rows); };
  const Tensor dhidden = room(), dgate = shape_.gated ? room() : Tensor{};
  return {dprocessed, dhidden, dgate};
}

void Experts::backward_hidden(Context& ctx, const Chunk& chunk, const Saved& saved, const Backward& work) const {
  const Span span(ctx.trace, SpanKind::kCompute, "experts backward", layer_);
  products_.clear();
  for (const Piece& piece : chunk.pieces) {
    const Expert& expert = experts_[static_cast<size_t>(piece.expert)];
    Product product = product_of(piece, work.dprocessed.buffer, expert.out.backward, Out(work.dhidden));
    if (is_relu()) {
      product.relu_of = rows_of(saved.hidden, piece);
      product.relu_of_scale = 1 / (1 - dropout_rate(ctx));
    }
    products_.push_back(product);
  }
  ctx.backend.multiply(products_);
  if (is_relu()) return;
  for_each_dropout(ctx, chunk, [&](int64_t first, int64_t rows, const Dropout& drop) {
    const Tensor d = work.dhidden.slice_rows(first, rows), u = saved.u.slice_rows(first, rows);
    const Tensor dg = shape_.gated ? work.dgate.slice_rows(first, rows) : Tensor{}, g = shape_.gated ? saved.g.slice_rows(first, rows) : Tensor{};
    ctx.backend.activate_backward(Out(d), Out(dg), d, u, g, shape_.activation, drop);
  });
}

void Experts::backward_input(Context& ctx, const Chunk& chunk, const Backward& work, const Tensor& darrived) const {
  const Span span(ctx.trace, SpanKind::kCompute, "experts backward", layer_);
  if (!shape_.gated) return add_input_gradient(ctx, chunk, work.dhidden, &Expert::in, Out(darrived));
  // Two products add to a row: in exact, rounded once.
  const Arena::Mark mark(ctx.scratch);
  const RowTable& table = *work.dprocessed.table;
  const bool exact = darrived.dtype() == ctx.precision.exact;
  const Tensor sum = exact ? darrived : ctx.temporary(ctx.precision.exact, {table.room, shape_.width}).slice_rows(0, table.rows);
  add_input_gradient(ctx, chunk, work.dgate, &Expert::gate, Out(sum));
  add_input_gradient(ctx, chunk, work.dhidden, &Expert::in, Accumulate(sum));
  if (exact) return;
  for_each_run(chunk, [&](int64_t first, int64_t rows) { ctx.backend.convert(Out(darrived.slice_rows(first, rows)), sum.slice_rows(first, rows)); });
}

// dx (+)= dy W
void Experts::add_input_gradient(Context& ctx, const Chunk& chunk, const Tensor& dy, Parameter Expert::*which, Target dx) const {
  products_.clear();
  for (const Piece& piece : chunk.pieces) {
    products_.push_back(product_of(piece, dy, (experts_[static_cast<size_t>(piece.expert)].*which).backward, dx));
  }
  ctx.backend.multiply(products_);
}

// One term per (copy, lane with rows), in lane order. Rows beyond the counts are zero in dprocessed and dhidden.
void Experts::backward_weights(Context& ctx, const Saved& saved, const Backward& work, Gradients& grads) const {
  const Span span(ctx.trace, SpanKind::kCompute, "experts backward", layer_);
  const RowTable& table = *work.dprocessed.table;
  const Tensor &dprocessed = work.dprocessed.buffer, &arrived = saved.arrived.buffer;
  outer_products_.clear();
  for_each_block(table, [&](const Expert& expert, int replica, int64_t first, int64_t rows) {
    outer_products_.push_back({dprocessed.slice_rows(first, rows), saved.hidden.slice_rows(first, rows), grads.expert_target(expert.out, replica)});
  });
  for_each_block(table, [&](const Expert& expert, int replica, int64_t first, int64_t rows) {
    outer_products_.push_back({work.dhidden.slice_rows(first, rows), arrived.slice_rows(first, rows), grads.expert_target(expert.in, replica)});
  });
  if (shape_.gated) {
    for_each_block(table, [&](const Expert& expert, int replica, int64_t first, int64_t rows) {
      outer_products_.push_back({work.dgate.slice_rows(first, rows), arrived.slice_rows(first, rows), grads.expert_target(expert.gate, replica)});
    });
  }
  ctx.backend.multiply_outer(outer_products_);
  if (!shape_.bias) return;
  for_each_block(table, [&](const Expert& expert, int replica, int64_t first, int64_t rows) {
    ctx.backend.sum_rows(grads.expert_target(expert.out_bias, replica), dprocessed.slice_rows(first, rows));
    ctx.backend.sum_rows(grads.expert_target(expert.in_bias, replica), work.dhidden.slice_rows(first, rows));
    if (shape_.gated) ctx.backend.sum_rows(grads.expert_target(expert.gate_bias, replica), work.dgate.slice_rows(first, rows));
  });
}

}  // namespace switchyard
