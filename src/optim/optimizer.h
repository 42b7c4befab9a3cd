// Optimizers: how an owner updates its blocks. An optimizer has no state of its own; what it remembers are the moments
// of the block, which lie beside the master, so that a checkpoint is nothing but tensors.
//
// An update has two phases. measure() looks at one block and gives a small vector; the caller gathers the vectors of all
// blocks of a parameter and adds them in block order, the same on every rank; apply() changes the block. AdamW and SGD
// measure nothing, so their caller goes straight to apply().
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/backend.h"
#include "src/optim/options.h"

namespace switchyard {

inline constexpr int kMaxMoments = 2;

// One block of a parameter at its owner: views, all [rows, columns] (or [columns]) in the exact dtype.
struct OwnedBlock {
  Tensor master;
  Tensor gradient;              // the sum over the whole step
  Tensor moments[kMaxMoments];  // the first Optimizer::moments() exist
  bool decay = true;            // Parameter::decay
};

// What is the same for every block of an update.
struct Update {
  double rate = 0;
  double gradient_scale = 1;  // clipping: the gradient counts as gradient * gradient_scale
  int64_t t = 1;              // number of this update, 1 for the first: steps so far, less those skipped, plus 1
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // Moments of a block, zero at the start, and their names in a checkpoint: "optimizer.<moment name>.<parameter name>".
  virtual int moments() const = 0;
  virtual const char* moment_name(int moment) const = 0;

  // Length of the vector that measure() fills; 0: there is nothing to measure.
  virtual int measures() const { return 0; }
  virtual void measure([[maybe_unused]] Backend& backend, [[maybe_unused]] const OwnedBlock& block, [[maybe_unused]] const Update& update,
                       [[maybe_unused]] std::span<double> out) const {}
  // `measured`: the sum of measure() over all blocks of this block's parameter.
  virtual void apply(Backend& backend, const OwnedBlock& block, const Update& update, std::span<const double> measured) const = 0;
};

// AdamW (Loshchilov and Hutter 2019), moments "m" and "v", or SGD, moment "m" unless the momentum is 0.
// Throws Error(kUsage) for rates outside their range: beta1, beta2 and momentum in [0, 1), epsilon > 0, decay >= 0.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options);

// What the gradient is multiplied with so that its norm is at most `clip_norm`: min(1, clip_norm / norm), and 1 where
// clip_norm is 0. `norm` is finite.
double clip_scale(double clip_norm, double norm);

}  // namespace switchyard
