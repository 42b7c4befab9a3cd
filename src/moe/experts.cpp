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

// A product whose operands are the rows of one block.
Product block_product(const Tensor& x, const PackedMatrix& matrix, const Target& y, int64_t first, int64_t rows) {
  Product product;
  product.x = x.slice_rows(first, rows);
  product.matrix = &matrix;
  product.y = {y.tensor.slice_rows(first, rows), y.add};
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

// Calls visit_block(global expert, lane, first row, rows rounded up) for every block with rows, experts outside, lanes
// inside.
template <class Visitor>
void Experts::for_each_block(const RowTable& table, Visitor visit_block) const {
  for (int expert = 0; expert < table.experts; ++expert) {
    for (int lane = 0; lane < table.lanes; ++lane) {
      const size_t block = table.block(expert, lane);
      if (table.count[block] == 0) continue;
      visit_block(table.first_expert + expert, table.first_lane + lane, table.offset[block], round_up(table.count[block], kRowMultiple));
    }
  }
}

// Calls visit_rows(first row, rows, dropout) for rows that draw from one dropout: block by block where there is one, else all.
template <class Visitor>
void Experts::for_each_dropout(const Context& ctx, const RowTable& table, Visitor visit_rows) const {
  if (dropout_rate(ctx) == 0) return visit_rows(int64_t{0}, table.rows, Dropout{});
  for_each_block(table, [&](int e, int64_t lane, int64_t first, int64_t rows) { visit_rows(first, rows, dropout(ctx, e, lane)); });
}

Dropout Experts::dropout(const Context& ctx, int expert, int64_t lane) const {
  if (dropout_rate(ctx) == 0) return {};
  const uint64_t index = expert_index(static_cast<uint64_t>(lane), static_cast<uint64_t>(ctx.key.accumulation), static_cast<uint64_t>(expert), 0);
  return {dropout_rate(ctx), Random(ctx.key.seed, Purpose::kExpertDropout, static_cast<uint32_t>(layer_), ctx.key.step, index)};
}

void Experts::forward(Context& ctx, const Rows& arrived, const Rows& processed, Saved& saved) const {
  saved.arrived = arrived;
  hidden_forward(ctx, arrived, saved);
  products_.clear();
  for_each_block(*arrived.table, [&](int e, int64_t, int64_t first, int64_t rows) {
    const Expert& expert = experts_[static_cast<size_t>(e)];
    Product product = block_product(saved.hidden, expert.out.forward, Out(processed.buffer), first, rows);
    product.bias = expert.out_bias.plain;
    products_.push_back(product);
  });
  ctx.backend.multiply(products_);
}

void Experts::hidden_forward(Context& ctx, const Rows& arrived, Saved& saved) const {
  const RowTable& table = *arrived.table;
  const auto room = [&] { return ctx.keep(ctx.precision.activation, {table.room, shape_.feed_forward}).slice_rows(0, table.rows); };
  saved.hidden = room();
  saved.u = is_relu() ? Tensor{} : room();
  saved.g = shape_.gated ? room() : Tensor{};
  products_.clear();
  for_each_block(table, [&](int e, int64_t lane, int64_t first, int64_t rows) {
    const Expert& expert = experts_[static_cast<size_t>(e)];
    Product product = block_product(arrived.buffer, expert.in.forward, Out(is_relu() ? saved.hidden : saved.u), first, rows);
    product.bias = expert.in_bias.plain;
    product.relu = is_relu();
    if (is_relu()) product.dropout = dropout(ctx, e, lane);
    products_.push_back(product);
    if (!shape_.gated) return;
    Product gate = block_product(arrived.buffer, expert.gate.forward, Out(saved.g), first, rows);
    gate.bias = expert.gate_bias.plain;
    products_.push_back(gate);
  });
  ctx.backend.multiply(products_);
  if (is_relu()) return;
  for_each_dropout(ctx, table, [&](int64_t first, int64_t rows, const Dropout& drop) {
    const Tensor g = shape_.gated ? saved.g.slice_rows(first, rows) : Tensor{};
    ctx.backend.activate(Out(saved.hidden.slice_rows(first, rows)), saved.u.slice_rows(first, rows), g, shape_.activation, drop);
  });
}

void Experts::backward(Context& ctx, const Rows& dprocessed, const Rows& darrived, const Saved& saved, Gradients& grads) const {
  const Arena::Mark mark(ctx.scratch);
  const RowTable& table = *dprocessed.table;
  const auto room = [&] { return ctx.temporary(ctx.precision.activation, {table.room, shape_.feed_forward}).slice_rows(0, table.rows); };
  const Tensor dhidden = room(), dgate = shape_.gated ? room() : Tensor{};
  hidden_gradients(ctx, dprocessed, dhidden, dgate, saved);
  input_gradients(ctx, dhidden, dgate, darrived);
  weight_gradients(ctx, dprocessed, dhidden, dgate, saved, grads);
}

// dhidden: the gradient of x W_in^T; dgate: of x W_gate^T.
void Experts::hidden_gradients(Context& ctx, const Rows& dprocessed, const Tensor& dhidden, const Tensor& dgate, const Saved& saved) const {
  const RowTable& table = *dprocessed.table;
  products_.clear();
  for_each_block(table, [&](int e, int64_t, int64_t first, int64_t rows) {
    Product product = block_product(dprocessed.buffer, experts_[static_cast<size_t>(e)].out.backward, Out(dhidden), first, rows);
    if (is_relu()) {
      product.relu_of = saved.hidden.slice_rows(first, rows);
      product.relu_of_scale = 1 / (1 - dropout_rate(ctx));
    }
    products_.push_back(product);
  });
  ctx.backend.multiply(products_);
  if (is_relu()) return;
  for_each_dropout(ctx, table, [&](int64_t first, int64_t rows, const Dropout& drop) {
    const Tensor d = dhidden.slice_rows(first, rows), u = saved.u.slice_rows(first, rows);
    const Tensor dg = shape_.gated ? dgate.slice_rows(first, rows) : Tensor{}, g = shape_.gated ? saved.g.slice_rows(first, rows) : Tensor{};
    ctx.backend.activate_backward(Out(d), Out(dg), d, u, g, shape_.activation, drop);
  });
}

void Experts::input_gradients(Context& ctx, const Tensor& dhidden, const Tensor& dgate, const Rows& darrived) const {
  const RowTable& table = *darrived.table;
  if (!shape_.gated) return add_input_gradient(ctx, table, dhidden, &Expert::in, Out(darrived.buffer));
  // Two products add to a row: in exact, rounded once.
  const bool exact = darrived.buffer.dtype() == ctx.precision.exact;
  const Tensor sum = exact ? darrived.buffer : ctx.temporary(ctx.precision.exact, {table.room, shape_.width}).slice_rows(0, table.rows);
  add_input_gradient(ctx, table, dgate, &Expert::gate, Out(sum));
  add_input_gradient(ctx, table, dhidden, &Expert::in, Accumulate(sum));
  if (!exact) ctx.backend.convert(Out(darrived.buffer), sum);
}

// dx (+)= dy W
void Experts::add_input_gradient(Context& ctx, const RowTable& table, const Tensor& dy, Parameter Expert::*which, Target dx) const {
  products_.clear();
  for_each_block(table, [&](int e, int64_t, int64_t first, int64_t rows) {
    products_.push_back(block_product(dy, (experts_[static_cast<size_t>(e)].*which).backward, dx, first, rows));
  });
  ctx.backend.multiply(products_);
}

// One term per (expert, lane with rows), in lane order. Rows beyond the counts are zero in dprocessed and dhidden.
void Experts::weight_gradients(Context& ctx, const Rows& dprocessed, const Tensor& dhidden, const Tensor& dgate, const Saved& saved, Gradients& grads) const {
  const RowTable& table = *dprocessed.table;
  outer_products_.clear();
  for_each_block(table, [&](int e, int64_t, int64_t first, int64_t rows) {
    const Parameter& out = experts_[static_cast<size_t>(e)].out;
    outer_products_.push_back({dprocessed.buffer.slice_rows(first, rows), saved.hidden.slice_rows(first, rows), grads.target(out)});
  });
  for_each_block(table, [&](int e, int64_t, int64_t first, int64_t rows) {
    const Parameter& in = experts_[static_cast<size_t>(e)].in;
    outer_products_.push_back({dhidden.slice_rows(first, rows), saved.arrived.buffer.slice_rows(first, rows), grads.target(in)});
  });
  if (shape_.gated) {
    for_each_block(table, [&](int e, int64_t, int64_t first, int64_t rows) {
      const Parameter& gate = experts_[static_cast<size_t>(e)].gate;
      outer_products_.push_back({dgate.slice_rows(first, rows), saved.arrived.buffer.slice_rows(first, rows), grads.target(gate)});
    });
  }
  ctx.backend.multiply_outer(outer_products_);
  if (!shape_.bias) return;
  for_each_block(table, [&](int e, int64_t, int64_t first, int64_t rows) {
    const Expert& expert = experts_[static_cast<size_t>(e)];
    ctx.backend.sum_rows(grads.target(expert.out_bias), dprocessed.buffer.slice_rows(first, rows));
    ctx.backend.sum_rows(grads.target(expert.in_bias), dhidden.slice_rows(first, rows));
    if (shape_.gated) ctx.backend.sum_rows(grads.target(expert.gate_bias), dgate.slice_rows(first, rows));
  });
}

}  // namespace switchyard
