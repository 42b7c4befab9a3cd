// Every way of routing, by name, as a case of a MoE layer.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "tests/moe/moe_world.h"

namespace switchyard {

struct Variant {
  std::string name;
  Case c;
  bool differentiable = true;  // not where something is rounded on the way
};
inline void PrintTo(const Variant& variant, std::ostream* stream) { *stream << variant.name; }

// In groups of 7 of 24 tokens with padding, and with so few slots that every one drops something, unless its name says
// otherwise.
std::vector<Variant> variants();

// The layer's forward, token by token and in f64, from the definitions alone: no lists sorted by expert, no kernels.
// "y ...", "sums ..." and "counts ..." as in run_step. Experts are ReLU without bias and dropout.
Result variant_reference(const Case& c);

}  // namespace switchyard
