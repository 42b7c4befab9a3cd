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
Product block_product(const Tensor& x, const PackedMatrix& matrix, const Tensor& y, int64_t first, int64_t rows) {
  Product product;
  product.x = x.slice_rows(first, rows);
  product.matrix = &matrix;
  product.y = Out(y.slice_rows(first, rows));
  return product;
}

}  // namespace

Experts::Experts(const std::string& prefix, int layer, const MoeShape& shape, const MoeOptions& options)
    : layer_(layer), shape_(shape), dropout_(options.expert_dropout) {
  for (int e = 0; e < options.experts; ++e) {
    const std::string name = prefix + ".expert." + std::to_string(e);
    Expert& expert = experts_.emplace_back();
    expert.in = weight(expert_parameter(name + ".in.weight", {shape.feed_forward, shape.width}, layer, e, 0), shape.initializer_scale);
    expert.out = weight(expert_parameter(name + ".out.weight", {shape.width, shape.feed_forward}, layer, e, 1), shape.initializer_scale);
    if (!shape.bias) continue;
    expert.in_bias = bias(expert_parameter(name + ".in.bias", {shape.feed_forward}, layer, e, 0));
    expert.out_bias = bias(expert_parameter(name + ".out.bias", {shape.width}, layer, e, -1));
  }
}

void Experts::visit(const ParameterVisitor& visitor) {
  for (Expert& expert : experts_) {
    visitor(expert.in);
    if (shape_.bias) visitor(expert.in_bias);
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

void Experts::forward(Context& ctx, const Rows& arrived, const Rows& processed, Saved& saved) const {
  const RowTable& table = *arrived.table;
  saved.arrived = arrived;
  saved.hidden = ctx.keep(ctx.precision.activation, {table.room, shape_.feed_forward}).slice_rows(0, table.rows);
  const double rate = dropout_rate(ctx);
  products_.clear();
  for_each_block(table, [&](int e, int64_t lane, int64_t first, int64_t rows) {
    const Expert& expert = experts_[static_cast<size_t>(e)];
    Product product = block_product(arrived.buffer, expert.in.forward, saved.hidden, first, rows);
    product.bias = expert.in_bias.plain;
    product.relu = true;
    if (rate > 0) {
      const uint64_t index = expert_index(static_cast<uint64_t>(lane), static_cast<uint64_t>(ctx.key.accumulation), static_cast<uint64_t>(e), 0);
      product.dropout = {rate, Random(ctx.key.seed, Purpose::kExpertDropout, static_cast<uint32_t>(layer_), ctx.key.step, index)};
    }
    products_.push_back(product);
  });
  ctx.backend.multiply(products_);

  products_.clear();
  for_each_block(table, [&](int e, int64_t, int64_t first, int64_t rows) {
    const Expert& expert = experts_[static_cast<size_t>(e)];
    Product product = block_product(saved.hidden, expert.out.forward, processed.buffer, first, rows);
    product.bias = expert.out_bias.plain;
    products_.push_back(product);
  });
  ctx.backend.multiply(products_);
}

void Experts::backward(Context& ctx, const Rows& dprocessed, const Rows& darrived, const Saved& saved, Gradients& grads) const {
  const Arena::Mark mark(ctx.scratch);
  const Tensor dhidden = ctx.temporary(ctx.precision.activation, {dprocessed.table->room, shape_.feed_forward}).slice_rows(0, dprocessed.table->rows);
  input_gradients(ctx, dprocessed, dhidden, darrived, saved);
  weight_gradients(ctx, dprocessed, dhidden, saved, grads);
}

void Experts::input_gradients(Context& ctx, const Rows& dprocessed, const Tensor& dhidden, const Rows& darrived, const Saved& saved) const {
  const RowTable& table = *dprocessed.table;
  products_.clear();
  for_each_block(table, [&](int e, int64_t, int64_t first, int64_t rows) {
    Product product = block_product(dprocessed.buffer, experts_[static_cast<size_t>(e)].out.backward, dhidden, first, rows);
    product.relu_of = saved.hidden.slice_rows(first, rows);
    product.relu_of_scale = 1 / (1 - dropout_rate(ctx));
    products_.push_back(product);
  });
  ctx.backend.multiply(products_);

  products_.clear();
  for_each_block(table, [&](int e, int64_t, int64_t first, int64_t rows) {
    products_.push_back(block_product(dhidden, experts_[static_cast<size_t>(e)].in.backward, darrived.buffer, first, rows));
  });
  ctx.backend.multiply(products_);
}

// One term per (expert, lane with rows), in lane order. Rows beyond the counts are zero in dprocessed and dhidden.
void Experts::weight_gradients(Context& ctx, const Rows& dprocessed, const Tensor& dhidden, const Saved& saved, Gradients& grads) const {
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
  ctx.backend.multiply_outer(outer_products_);
  if (!shape_.bias) return;
  for_each_block(table, [&](int e, int64_t, int64_t first, int64_t rows) {
    const Expert& expert = experts_[static_cast<size_t>(e)];
    ctx.backend.sum_rows(grads.target(expert.out_bias), dprocessed.buffer.slice_rows(first, rows));
    ctx.backend.sum_rows(grads.target(expert.in_bias), dhidden.slice_rows(first, rows));
  });
}

}  // namespace switchyard
