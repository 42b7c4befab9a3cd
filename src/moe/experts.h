// Experts: the feed-forward layers of a MoE layer, of which a rank hosts some.
//
//   y = relu(x W_in^T) W_out^T                         expert dropout after relu (switch.md 1.8)
//   y = (activation(x W_in^T) * x W_gate^T) W_out^T    gated (switch.md 2.5); expert dropout before W_out
//
// Ungated relu and its dropout happen on the product's way out; everything else keeps x W_in^T, and x W_gate^T, for
// backward.
//
// Rows come in chunks (row_table.h). The operand of a product is the rows of one expert from one lane, or whole panels of
// them, never of several lanes together: so its bits do not depend on how many lanes are in flight, nor on the chunks.
// Gradients are added lane by lane, in lane order, each lane's rows in one product; each replica of an expert has a sum of its
// own, of the lanes that feed it.
#pragma once

#include <string>
#include <vector>

#include "src/layers/context.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"
#include "src/moe/options.h"
#include "src/moe/row_table.h"

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

  // Gradients in scratch memory.
  struct Backward {
    Rows dprocessed;        // [rows, D] activation: the input
    Tensor dhidden, dgate;  // [rows, F] activation: of x W_in^T; of x W_gate^T, or none
  };

  // Takes memory for the rows of all chunks; each of which is then read as it has arrived, first by forward_hidden, and
  // leaves by forward_output in processed [rows, D].
  void begin_forward(Context& ctx, const Rows& arrived, Saved& saved) const;
  void forward_hidden(Context& ctx, const Chunk& chunk, const Saved& saved) const;
  void forward_output(Context& ctx, const Chunk& chunk, const Saved& saved, const Tensor& processed) const;

  // Likewise. Rows beyond the counts are zero in dprocessed. darrived [rows, D].
  Backward begin_backward(Context& ctx, const Rows& dprocessed) const;
  void backward_hidden(Context& ctx, const Chunk& chunk, const Saved& saved, const Backward& work) const;
  void backward_input(Context& ctx, const Chunk& chunk, const Backward& work, const Tensor& darrived) const;
  // After the last chunk.
  void backward_weights(Context& ctx, const Saved& saved, const Backward& work, Gradients& grads) const;

  void visit(const ParameterVisitor& visitor);

 private:
  struct Expert {
    Parameter in, gate, out;                 // [F, D], [F, D] with MoeShape::gated, [D, F]
    Parameter in_bias, gate_bias, out_bias;  // [F], [F], [D]; used with MoeShape::bias
  };
  template <class Visitor>
  void for_each_block(const RowTable& table, Visitor visit_block) const;
  template <class Visitor>
  void for_each_dropout(const Context& ctx, const Chunk& chunk, Visitor visit_rows) const;
  void add_input_gradient(Context& ctx, const Chunk& chunk, const Tensor& dy, Parameter Expert::*which, Target dx) const;
  bool is_relu() const { return shape_.activation == Activation::kRelu && !shape_.gated; }
  Dropout dropout(const Context& ctx, const Piece& piece) const;
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
