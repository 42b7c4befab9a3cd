// EmbeddingLayer: a token table and learned positions, and dropout after their sum. The token table is also the
// output's (loss.h), whose backward comes first: it has two uses.
#pragma once

#include <string>

#include "src/layers/dropout.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"

namespace switchyard {

struct EmbeddingLayer {
  Parameter token;     // [N, D]
  Parameter position;  // [S, D]
  DropoutLayer dropout;

  struct Saved {
    Tensor tokens;  // [T] I32, the batch's
    int64_t sequence = 0;
  };

  // Names are "<name>.token.weight" and "<name>.position.weight". Both tables start as N(0, deviation).
  static EmbeddingLayer make(const std::string& name, int64_t vocabulary, int64_t positions, int64_t width, double deviation, double dropout);

  // tokens [T] I32, T a multiple of `sequence`; row t stands at position first_position + t % sequence, which must lie in
  // the table -> x [T, D] activation, in ctx.saved.
  Tensor forward(Context& ctx, const Tensor& tokens, int64_t sequence, Saved& saved, int64_t first_position = 0) const;
  // dx [T, D] activation. For forwards with first_position 0.
  void backward(Context& ctx, const Tensor& dx, const Saved& saved, Gradients& grads) const;

  void visit(const ParameterVisitor& visitor);
};

}  // namespace switchyard
