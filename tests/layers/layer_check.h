// The gradient check of one layer: loss = <y, r> with a fixed random r.
#pragma once

#include "tests/gradcheck.h"

namespace switchyard::test {

struct LayerCheck {
  explicit LayerCheck(Precision precision = kPrecisionF64) : bench(precision), store(*bench.backend, precision), grads(precision.exact) {}

  // forward() -> y, in whatever arena; backward(dy) -> dx, or none. `inputs` are what dx and further gradients belong to:
  // it is asked after backward.
  template <class Forward, class Backward>
  void run(const Shape& output, Forward forward, Backward backward, const std::function<std::vector<Checked>(Tensor)>& inputs) {
    const Tensor r = bench.normal(output, 77);
    const auto loss = [&] {
      const Arena::Mark saved(bench.saved), scratch(bench.scratch);
      return dot(forward(), r);
    };
    std::vector<Checked> checked;
    {
      const Arena::Mark saved(bench.saved), scratch(bench.scratch);
      forward();
      const Tensor dx = backward(bench.copy(r));
      checked = inputs(dx.exists() ? bench.copy(dx) : dx);
    }
    GradientCheck check(loss);
    for (const Checked& tensor : checked) check(tensor);
    check(store, grads);
  }

  Context& ctx() { return bench.ctx; }

  Bench bench;
  TestStore store;
  TestGradients grads;
};

}  // namespace switchyard::test
