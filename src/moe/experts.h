// Experts: the feed-forward layers of a MoE layer, of which a rank hosts some.
//
//   y = relu(x W_in^T) W_out^T                         expert dropout after relu (switch.md 1.8)
//   y = (activation(x W_in^T) * x W_gate^T) W_out^T    gated (switch.md 2.5); expert dropout before W_out
//
// Ungated relu and its dropout happen on the product's way out; everything else keeps x W_in^T, and x W_gate^T, for
// backward.
//
// The operand of a product is the rows of one expert from one lane, never of several lanes together: so its bits do not
// depend on how many lanes are in flight. Gradients of an expert are added lane by lane, in lane order.
#pragma once

#include <string>
#include <vector>

#include "src/layers/context.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"
#include "src/moe/exchange.h"
#include "src/moe/options.h"

namespace switchyard {

class Experts {
 public:
  struct Saved {
    Rows arrived;   // [rows, D] activation: the input
    Tensor u, g;    // [rows, F] activation: x W_in^T, none for ungated relu; x W_gate^T, or none
    Tensor hidden;  // [rows, F] activation: what W_out reads
  };

  // Parameters of all experts, `<prefix>.expert.{e}.in.weight` and so on; memory is attached to the hosted ones only.
  Experts(const std::string& prefix, int layer, const MoeShape& shape, const MoeOptions& options);

  // Reads arrived, fills processed.
  void forward(Context& ctx, const Rows& arrived, const Rows& processed, Saved& saved) const;
  // Reads dprocessed (zero beyond the counts), fills darrived.
  void backward(Context& ctx, const Rows& dprocessed, const Rows& darrived, const Saved& saved, Gradients& grads) const;

  void visit(const ParameterVisitor& visitor);

 private:
  struct Expert {
    Parameter in, gate, out;                 // [F, D], [F, D] with MoeShape::gated, [D, F]
    Parameter in_bias, gate_bias, out_bias;  // [F], [F], [D]; used with MoeShape::bias
  };
  template <class Visitor>
  void for_each_block(const RowTable& table, Visitor visit_block) const;
  template <class Visitor>
  void for_each_dropout(const Context& ctx, const RowTable& table, Visitor visit_rows) const;
  void hidden_forward(Context& ctx, const Rows& arrived, Saved& saved) const;
  void hidden_gradients(Context& ctx, const Rows& dprocessed, const Tensor& dhidden, const Tensor& dgate, const Saved& saved) const;
  void input_gradients(Context& ctx, const Tensor& dhidden, const Tensor& dgate, const Rows& darrived) const;
  void add_input_gradient(Context& ctx, const RowTable& table, const Tensor& dy, Parameter Expert::*which, Target dx) const;
  void weight_gradients(Context& ctx, const Rows& dprocessed, const Tensor& dhidden, const Tensor& dgate, const Saved& saved, Gradients& grads) const;
  bool is_relu() const { return shape_.activation == Activation::kRelu && !shape_.gated; }
  Dropout dropout(const Context& ctx, int expert, int64_t lane) const;
  double dropout_rate(const Context& ctx) const { return ctx.training ? dropout_ : 0; }

  int layer_;
  MoeShape shape_;
  double dropout_;
  std::vector<Expert> experts_;  // [E]
  // Lists of one call. Members so that their memory is reused; a layer is used by its rank's thread only.
  mutable std::vector<Product> products_;
  mutable std::vector<OuterProduct> outer_products_;
};

}  // namespace switchyard
