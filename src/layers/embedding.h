// EmbeddingLayer: a token table and learned positions, and dropout after their sum. Where the head is tied, the token table
// is also the output's (loss.h), whose backward comes first: it has two uses.
#pragma once

#include <string>

#include "src/layers/dropout.h"
#include "src/layers/gradients.h"
#include "src/layers/parameter.h"

namespace switchyard {

struct EmbeddingLayer {
  struct Options {
    int64_t vocabulary = 0;  // N
    int64_t positions = 0;   // S; 0: tokens stand nowhere in particular
    int64_t width = 0;       // D
    double deviation = 1;    // of both tables at the start
    double dropout = 0;
    bool tied_head = true;
  };

  Parameter token;     // [N, D]
  Parameter position;  // [S, D]; visited only if there are positions
  DropoutLayer dropout;

  struct Saved {
    Tensor tokens;  // [T] I32, the batch's
    int64_t sequence = 0;
  };

  // Names are "<name>.token.weight" and "<name>.position.weight".
  static EmbeddingLayer make(const std::string& name, const Options& options);

  // tokens [T] I32, T a multiple of `sequence`; row t stands at position first_position + t % sequence, which must lie in
  // the table if there is one -> x [T, D] activation, in ctx.saved.
  Tensor forward(Context& ctx, const Tensor& tokens, int64_t sequence, Saved& saved, int64_t first_position = 0) const;
  // dx [T, D] activation. For forwards with first_position 0.
  void backward(Context& ctx, const Tensor& dx, const Saved& saved, Gradients& grads) const;

  void visit(const ParameterVisitor& visitor);

 private:
  bool has_positions() const { return position.rows() > 0; }
};

}  // namespace switchyard
