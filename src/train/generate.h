// Generation: one token after another, each drawn from the model's distribution given those before it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "src/train/runtime.h"

namespace switchyard {

struct GenerateOptions {
  int64_t tokens = 100;    // at most so many are drawn
  double temperature = 1;  // logits are divided by it; 0: always the largest (lowest token on a tie)
  int64_t top_k = 0;       // only the so many largest; 0: all
  double top_p = 1;        // of those, only the fewest whose probabilities sum to at least this, in (0, 1]; 1: all
  uint64_t seed = 1;       // token i of a generation is a pure function of (seed, i) and the logits
  int32_t end = -1;        // generation ends after this token
  bool cached = true;      // keys and values are remembered; false, and always in Soft MoE: every token computes the whole context again
};

// A token from logits [N] by options. `index` counts the tokens drawn so far. Tokens are ranked by logit, equal ones by
// number. top_k keeps the first of them; softmax(logits / temperature) over what it kept is what top_p sums, in rank
// order, up to and including the token that reaches it (nucleus sampling, Holtzman et al. 2020): at least one token.
int32_t sample(const std::vector<double>& logits, const GenerateOptions& options, uint64_t index);

// Continues `prompt` (at least one token); `on_token` gets each token as it is drawn. Where the position table ends, the
// second half of the context is read again from position 0. The model must not drop tokens at evaluation
// (eval_capacity_factor 0): then the cached and the uncached forms agree. One rank.
void generate(Runtime& runtime, const std::vector<int32_t>& prompt, const GenerateOptions& options, const std::function<void(int32_t)>& on_token);

}  // namespace switchyard
