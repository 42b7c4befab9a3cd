// State: what a checkpoint is made of, whatever the number of ranks. Tensors have global names; each is cut in blocks by
// its shape alone (src/layers/blocks.h), and each block has one owner, who alone holds its bytes. Names, dtypes, shapes
// and owners are known on every rank.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"
#include "src/layers/blocks.h"

namespace switchyard {

struct StateBlock {
  int64_t first_row = 0;
  int64_t rows = 0;
  int owner = 0;
  Tensor data;  // on the host, contiguous, rows * columns elements of the tensor's dtype; exists only at the owner
};

struct StateTensor {
  std::string name;  // "decoder.embedding.weight", "optimizer.m.decoder.embedding.weight"
  Dtype dtype = Dtype::kF32;
  Shape shape;
  std::vector<StateBlock> blocks;  // as blocks_of(shape), in that order

  // Elements of one row, as blocks count rows: a vector is one row.
  int64_t row_elements() const { return shape.rank() <= 1 ? shape.elements() : shape.elements() / shape[0]; }
  int64_t bytes() const { return shape.elements() * size_of(dtype); }
  int64_t block_bytes(const StateBlock& block) const { return block.rows * row_elements() * size_of(dtype); }
};

// In any order; names are unique, and no tensor is empty.
using State = std::vector<StateTensor>;

// Names of optimizer moments begin with this; all others are weights.
inline constexpr std::string_view kOptimizerPrefix = "optimizer.";

// Throws InternalError unless every tensor of the state is as described above, seen from `rank`.
void check_state(const State& state, int rank, int ranks);

// Indices of the tensors, by name.
std::vector<size_t> name_order(const State& state);

// The evaluation with the lowest held-out loss so far.
struct BestEvaluation {
  int64_t step = 0;   // steps done before it; 0: none yet
  double loss = 0;    // finite
  int64_t since = 0;  // evaluations after it, none of them better

  bool operator==(const BestEvaluation&) const = default;
};

// Numbers of the run that are not tensors.
struct StateInfo {
  int64_t step = 0;    // steps done, skipped ones included
  int64_t cursor = 0;  // windows of data taken
  int64_t skips = 0;   // steps skipped: step - skips updates were applied (Adam's t)
  int64_t tokens = 0;  // tokens trained on
  BestEvaluation best;
  uint64_t seed = 0;
  std::string config;     // resolved configuration, text format
  std::string precision;  // resolved: "F32" or "BF16"
  std::string tokenizer;  // digest of the data's tokenizer, 32 hexadecimal digits; empty: unknown
  std::string code;       // version of the program that wrote it
  int ranks = 0;          // that wrote it; for information only

  bool operator==(const StateInfo&) const = default;
};

}  // namespace switchyard
