// Gradients: where backward puts the gradients of parameters. A layer does not know what becomes of them.
#pragma once

#include "kernels/tensor.h"
#include "src/layers/parameter.h"

namespace switchyard {

class Gradients {
 public:
  virtual ~Gradients() = default;

  // Where the gradient of this use goes, in the exact dtype and the parameter's shape. Of a dense parameter the first
  // use in a micro-batch gets an Out and later uses an Accumulate on the same memory; the use that makes up
  // parameter.uses closes it.
  virtual Target target(const Parameter& parameter) = 0;
  // For an expert the target is the sum of one replica, which is on this rank: the first term of the step gets an Out,
  // later ones (further lanes, in lane order, and accumulations) an Accumulate; a lane without rows asks for nothing.
  virtual Target expert_target(const Parameter& parameter, int replica) = 0;
  // This use has been written. Dense parameters only; in the same order on every rank, empty lanes included.
  virtual void done(const Parameter& parameter) = 0;
};

}  // namespace switchyard
