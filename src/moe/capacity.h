// Capacity: slots of one expert in one token group, by the rules of the systems that people come from (systems.md 1h).
#pragma once

#include <cstdint>

#include "src/moe/options.h"

namespace switchyard {

// From tokens * factor * choices / experts to whole slots. The steps in this order:
//   rounded;  at most the group's tokens, which no expert can exceed;  up to `multiple`;  at least `minimum`;  less
//   `unusable`
struct CapacityRule {
  CapacityRounding rounding = CapacityRounding::kDown;
  int64_t multiple = 1;
  int64_t minimum = 4;
  int64_t unusable = 0;
};

// What the rule says, which may be 0 or less. `choices`: how often each token counts, 1 or top_k.
int64_t slots_by_rule(const CapacityRule& rule, int64_t tokens, int experts, double factor, int choices);

CapacityRule capacity_rule(const MoeOptions& options);

// Slots of one expert in one token group of `group_tokens` tokens: by the rule, and at least 1. Factor 0: as many as the
// group has tokens, nothing is dropped.
int64_t capacity(const MoeOptions& options, int64_t group_tokens, bool training);

// Tokens of a token group in micro-batches of `tokens` tokens; at least 1.
int64_t group_tokens_of(const MoeOptions& options, int64_t tokens);

// Rows of one expert's block where blocks are of fixed size: what it keeps at most of a micro-batch of `tokens` tokens or
// fewer in training.
int64_t fixed_block(const MoeOptions& options, int64_t tokens);

// Choices of a token: k, or E where experts choose.
int64_t choices_of(const MoeOptions& options);
// Entries that a token has at most: its choices, or 1 where a choice is asked only after the last one was refused.
int64_t entries_of(const MoeOptions& options);

}  // namespace switchyard
