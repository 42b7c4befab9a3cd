// The MoE layer token by token, in f64, from the formulas of the paper alone: no lists, no buffers, no backend. What
// MoeLayer is tested against.
#pragma once

#include "tests/moe/moe_world.h"

namespace switchyard {

// The same names and values as run_step; an expert that no token reached has no gradient.
Result brute_force(const Case& c);

}  // namespace switchyard
