// ClassifierHead: from the mean of a text to a number for each class.
//
//   logits = W_classes dropout(relu(W_hidden dropout(mean) + b)) + b      hidden > 0
//   logits = W_classes dropout(mean) + b                                  hidden = 0
#pragma once

#include <optional>
#include <string>

#include "src/layers/dropout.h"
#include "src/layers/linear.h"
#include "src/model/options.h"

namespace switchyard {

struct ClassifierHead {
  double dropout = 0;                 // before each product
  std::optional<LinearLayer> hidden;  // [hidden, D]
  LinearLayer classes;                // [classes, hidden or D]

  struct Saved {
    LinearLayer::Saved hidden_in, classes_in;
    Tensor hidden;  // [B, hidden] activation, after ReLU and dropout
  };

  // Names are "<name>.hidden.weight", "<name>.classes.weight" and .bias. Deviations are those of fan-in 1.
  static ClassifierHead make(const std::string& name, int64_t width, const ClassifierOptions& options);

  // mean [B, D] activation, dropped in place; it must stay until backward -> logits [B, classes] activation, in
  // ctx.scratch.
  Tensor forward(Context& ctx, const Tensor& mean, Saved& saved) const;
  // dlogits [B, classes] activation -> the gradient of the mean [B, D] activation, in ctx.scratch.
  Tensor backward(Context& ctx, const Tensor& dlogits, const Saved& saved, Gradients& grads) const;

  void visit(const ParameterVisitor& visitor);

 private:
  // Its rows are sequences: row b draws as number first_token + b.
  DropoutLayer dropout_layer() const { return {.rate = dropout, .purpose = Purpose::kHeadDropout, .layer = 0}; }
  Dropout hidden_dropout(const Context& ctx) const { return ctx.dropout(dropout, Purpose::kHeadDropout, 1); }
};

}  // namespace switchyard
