// Accounting: what a model costs, from its sizes alone. Nothing is built, allocated or measured for it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/layers/context.h"
#include "src/model/options.h"

namespace switchyard {

// One layer.
struct LayerCost {
  std::string name;             // what its parameters' names begin with; with several layers of one name, what they add to it
  std::string kind;             // "attention", "MoE: 8 experts, 1 a token", for people
  std::vector<int64_t> output;  // extents of what it makes of one sequence: [S, D]
  int64_t parameters = 0;
  int64_t active = 0;        // parameters that one token meets: of the experts, those that it goes to
  double forward_flops = 0;  // per token, in products: a multiplication and an addition are two
};

// In the order in which a token meets them. A norm belongs to the sublayer beside it. A tied head's parameters are the
// embedding's.
//
// In a decoder a token sees (S + 1) / 2 keys on average, and only those are counted; in a classifier it sees S. A dropped
// token is counted as if an expert had seen it.
std::vector<LayerCost> layer_costs(const ModelOptions& model);

struct ModelCost {
  int64_t parameters = 0;
  int64_t active = 0;
  // Per trained token, forward and backward: 3 times forward, for each product has a gradient with respect to each of its
  // two operands.
  double training_flops = 0;
};
ModelCost model_cost(const ModelOptions& model);

// How a model is trained, as far as memory is concerned.
struct MemoryShape {
  int ranks = 1;       // P
  int lanes = 1;       // W
  int accumulate = 1;  // A
  int replicas = 1;    // R, of each expert
  int64_t sequences = 1;
  Precision precision;
  int moments = 2;  // of the optimizer
};

// Bytes that a micro-batch keeps for backward, and that calls take at a time: what the arenas of a rank should begin with,
// so that they are one block each. Arenas that grow block by block waste what is left of every block.
struct ArenaBytes {
  int64_t saved = 0, scratch = 0;
};
ArenaBytes arena_bytes(const ModelOptions& model, const MemoryShape& shape);

struct MemoryPart {
  std::string name;
  int64_t bytes = 0;
};

// Bytes of the rank that hosts most replicas of experts, part by part, while it trains. Routing is taken as balanced; unbalanced, one
// rank's rows may grow up to the capacity. The last part stands for the program itself and its libraries.
std::vector<MemoryPart> memory_per_rank(const ModelOptions& model, const MemoryShape& shape);

}  // namespace switchyard
