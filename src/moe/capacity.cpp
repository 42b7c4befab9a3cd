#include "src/moe/capacity.h"

#include <algorithm>
#include <cmath>

#include "src/base/checked.h"

namespace switchyard {
namespace {

double rounded_slots(CapacityRounding rounding, double tokens, double experts, double factor, double choices) {
  switch (rounding) {
    case CapacityRounding::kDown: return std::floor(tokens * factor * choices / experts);
    case CapacityRounding::kNearest: return std::nearbyint(tokens * factor * choices / experts);  // the default mode: half to even
    case CapacityRounding::kUp: return std::ceil(tokens * factor * choices / experts);
    case CapacityRounding::kMeanUp: return choices * std::floor(factor * std::ceil(tokens / experts));
  }
  return 0;
}

}  // namespace

int64_t slots_by_rule(const CapacityRule& rule, int64_t tokens, int experts, double factor, int choices) {
  const double slots = rounded_slots(rule.rounding, static_cast<double>(tokens), experts, factor, choices);
  const int64_t bounded = static_cast<int64_t>(std::min(slots, static_cast<double>(tokens)));  // min first: a huge factor fits no integer
  return std::max(round_up(bounded, rule.multiple), rule.minimum) - rule.unusable;
}

CapacityRule capacity_rule(const MoeOptions& options) {
  return {options.capacity_rounding, options.capacity_multiple, options.min_capacity, options.unusable_slots};
}

int64_t capacity(const MoeOptions& options, int64_t group_tokens, bool training) {
  const double factor = training ? options.capacity_factor : options.eval_capacity_factor;
  if (factor == 0) return std::max<int64_t>(group_tokens, 1);
  const int choices = options.capacity_times_top_k && options.router == RouterKind::kTopK ? options.top_k : 1;
  return std::max<int64_t>(slots_by_rule(capacity_rule(options), group_tokens, options.experts, factor, choices), 1);
}

int64_t group_tokens_of(const MoeOptions& options, int64_t tokens) {
  const int64_t whole = std::max<int64_t>(tokens, 1);
  return options.group_tokens == 0 ? whole : std::min(options.group_tokens, whole);
}

int64_t fixed_block(const MoeOptions& options, int64_t tokens) {
  const int64_t group = group_tokens_of(options, tokens);
  return std::min(checked_multiply(divide_up(tokens, group), capacity(options, group, true)), tokens);
}

int64_t choices_of(const MoeOptions& options) {
  switch (options.router) {
    case RouterKind::kTopK:
    case RouterKind::kNoTokenLeftBehind: return options.top_k;
    case RouterKind::kExpertChoice: return options.experts;
    case RouterKind::kHash:
    case RouterKind::kSoft: return 1;
  }
  return 1;
}

int64_t entries_of(const MoeOptions& options) { return options.router == RouterKind::kNoTokenLeftBehind ? 1 : choices_of(options); }

}  // namespace switchyard
