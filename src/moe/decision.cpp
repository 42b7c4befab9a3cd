#include "src/moe/decision.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard {
namespace {

int64_t group_end(const RouterShape& shape, int64_t group) { return std::min((group + 1) * shape.group_tokens, shape.tokens); }

// Hands out the slots of one micro-batch, choice by choice.
class Slots {
 public:
  Slots(int64_t capacity, Decision& decision) : decision_(decision), capacity_(capacity), free_(static_cast<size_t>(decision.shape.experts)) {
    decision.source.clear();
    decision.kept.assign(free_.size(), 0);
    decision.requested.assign(static_cast<size_t>(decision.shape.groups()) * free_.size(), 0);
    decision.position.assign(decision.expert.size(), -1);
  }
  void begin_group() { std::fill(free_.begin(), free_.end(), capacity_); }
  bool ask(int64_t token, int64_t choice) {
    const size_t at = static_cast<size_t>(token * decision_.choices + choice);
    const size_t expert = static_cast<size_t>(decision_.expert[at]);
    if (free_[expert] == 0) return false;
    --free_[expert];
    ++decision_.kept[expert];
    kept_.push_back(static_cast<int32_t>(at));
    return true;
  }
  void count_request(int64_t token, int64_t expert) {
    ++decision_.requested[static_cast<size_t>(token / decision_.shape.group_tokens * decision_.shape.experts + expert)];
  }
  // Rows follow one another by expert, then in the order in which they got their slots.
  void finish() {
    std::vector<int32_t> next(free_.size(), 0);
    for (size_t e = 1; e < next.size(); ++e) next[e] = next[e - 1] + decision_.kept[e - 1];
    decision_.source.resize(kept_.size());
    for (const int32_t at : kept_) {
      const int32_t row = next[static_cast<size_t>(decision_.expert[static_cast<size_t>(at)])]++;
      decision_.position[static_cast<size_t>(at)] = row;
      decision_.source[static_cast<size_t>(row)] = at;
    }
  }

 private:
  Decision& decision_;
  int64_t capacity_;
  std::vector<int64_t> free_;  // [E] slots of the group at hand
  std::vector<int32_t> kept_;  // choices in the order in which they got slots
};

// Calls visit(token, choice, expert) for every choice that asks: groups, then choices, then tokens in order.
template <class Visit>
void for_each_asking(std::span<const int32_t> order, const Decision& decision, Slots& slots, Visit visit) {
  for (int64_t group = 0; group < decision.shape.groups(); ++group) {
    slots.begin_group();
    for (int64_t choice = 0; choice < decision.choices; ++choice) {
      for (int64_t i = group * decision.shape.group_tokens; i < group_end(decision.shape, group); ++i) {
        const int64_t token = order[static_cast<size_t>(i)];
        const int32_t expert = decision.expert[static_cast<size_t>(token * decision.choices + choice)];
        if (expert >= 0) visit(token, choice, expert);
      }
    }
  }
}

}  // namespace

void Decision::begin(const RouterShape& its_shape, int64_t its_choices) {
  shape = its_shape;
  choices = its_choices;
  check(shape.tokens * choices <= INT32_MAX, "Decision: more choices than 32 bits can number");
  mask.assign(static_cast<size_t>(shape.tokens), 1);
  expert.assign(static_cast<size_t>(shape.tokens * choices), kNoChoice);
}

template <class T>
void choose_experts(std::span<const T> scores, Decision& decision) {
  const int64_t experts = decision.shape.experts;
  for (int64_t t = 0; t < decision.shape.tokens; ++t) {
    if (!decision.counts(t)) continue;
    const T* row = scores.data() + t * experts;
    int32_t* chosen = decision.expert.data() + t * decision.choices;
    for (int64_t c = 0; c < decision.choices; ++c) {
      const int32_t last = c == 0 ? kNoChoice : chosen[c - 1];
      // Those after the last choice in the order of (score falling, index rising).
      const auto left = [&](int32_t i) { return last == kNoChoice || row[i] < row[last] || (row[i] == row[last] && i > last); };
      for (int32_t i = 0; i < experts; ++i) {
        if (left(i) && (chosen[c] == kNoChoice || row[i] > row[chosen[c]])) chosen[c] = i;
      }
      if (chosen[c] == kNoChoice) break;  // scores that are no numbers
    }
  }
}

template <class T>
void choose_tokens(std::span<const T> scores, int64_t capacity, Decision& decision) {
  const int64_t experts = decision.shape.experts;
  std::vector<int32_t> candidates;
  for (int64_t group = 0; group < decision.shape.groups(); ++group) {
    for (int64_t e = 0; e < experts; ++e) {
      candidates.clear();
      for (int64_t t = group * decision.shape.group_tokens; t < group_end(decision.shape, group); ++t) {
        const T score = scores[static_cast<size_t>(t * experts + e)];
        if (decision.counts(t) && score == score) candidates.push_back(static_cast<int32_t>(t));
      }
      const auto better = [&](int32_t a, int32_t b) {
        const T of_a = scores[static_cast<size_t>(a * experts + e)], of_b = scores[static_cast<size_t>(b * experts + e)];
        return of_a > of_b || (of_a == of_b && a < b);
      };
      const auto end = candidates.begin() + std::min(capacity, static_cast<int64_t>(candidates.size()));
      std::nth_element(candidates.begin(), end, candidates.end(), better);
      for (auto token = candidates.begin(); token != end; ++token) decision.expert[static_cast<size_t>(*token * experts + e)] = static_cast<int32_t>(e);
    }
  }
}

void choose_by_table(std::span<const int32_t> tokens, std::span<const int32_t> table, Decision& decision) {
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (decision.mask[t] == 0) continue;
    check(tokens[t] >= 0 && static_cast<size_t>(tokens[t]) < table.size(), "hash routing: the number of a token is outside the table");
    decision.expert[t] = table[static_cast<size_t>(tokens[t])];
  }
}

template <class T>
void ask_second_at_random(std::span<const T> gates, const Random& random, Decision& decision) {
  check(decision.choices == 2, "ask_second_at_random: expected two choices");
  for (int64_t t = 0; t < decision.shape.tokens; ++t) {
    const size_t second = static_cast<size_t>(2 * t + 1);
    const auto unit = static_cast<double>(unit_float(random.word(static_cast<uint64_t>(t), 0)));
    if (decision.expert[second] >= 0 && !(unit < 2 * static_cast<double>(gates[second]))) decision.expert[second] = not_asked(decision.expert[second]);
  }
}

void ask_for_slots(std::span<const int32_t> order, int64_t capacity, Decision& decision) {
  Slots slots(capacity, decision);
  for_each_asking(order, decision, slots, [&](int64_t token, int64_t choice, int32_t expert) {
    slots.count_request(token, expert);
    slots.ask(token, choice);
  });
  slots.finish();
}

void ask_until_kept(std::span<const int32_t> order, int64_t capacity, Decision& decision) {
  Slots slots(capacity, decision);
  for_each_asking(order, decision, slots, [&](int64_t token, int64_t choice, int32_t expert) {
    if (choice == 0) slots.count_request(token, expert);
    if (!slots.ask(token, choice)) return;
    for (int64_t later = choice + 1; later < decision.choices; ++later) {
      int32_t& at = decision.expert[static_cast<size_t>(token * decision.choices + later)];
      if (at >= 0) at = not_asked(at);
    }
  });
  slots.finish();
}

void restore(Decision& decision) {
  const size_t experts = static_cast<size_t>(decision.shape.experts);
  decision.kept.assign(experts, 0);
  decision.requested.assign(static_cast<size_t>(decision.shape.groups()) * experts, 0);
  decision.source.clear();
  for (size_t i = 0; i < decision.expert.size(); ++i) {
    const int32_t expert = decision.expert[i], row = decision.position[i];
    if (expert < 0) continue;
    const int64_t group = static_cast<int64_t>(i) / decision.choices / decision.shape.group_tokens;
    ++decision.requested[static_cast<size_t>(group) * experts + static_cast<size_t>(expert)];
    if (row < 0) continue;
    ++decision.kept[static_cast<size_t>(expert)];
    if (decision.source.size() <= static_cast<size_t>(row)) decision.source.resize(static_cast<size_t>(row) + 1, -1);
    decision.source[static_cast<size_t>(row)] = static_cast<int32_t>(i);
  }
}

int64_t tokens_of(const Decision& decision) {
  return std::count_if(decision.mask.begin(), decision.mask.end(), [](int32_t mask) { return mask != 0; });
}

int64_t tokens_without_entry(const Decision& decision) {
  int64_t without = 0;
  for (int64_t t = 0; t < decision.shape.tokens; ++t) {
    const auto first = decision.position.begin() + t * decision.choices;
    without += decision.counts(t) && std::all_of(first, first + decision.choices, [](int32_t position) { return position < 0; }) ? 1 : 0;
  }
  return without;
}

void order_left_to_right(int64_t tokens, std::vector<int32_t>& order) {
  order.resize(static_cast<size_t>(tokens));
  std::iota(order.begin(), order.end(), 0);
}

template <class T>
void order_by_score(std::span<const T> scores, const Decision& decision, std::vector<int32_t>& order) {
  order_left_to_right(decision.shape.tokens, order);
  const auto first_score = [&](int32_t token) {
    const int32_t expert = decision.expert[static_cast<size_t>(token * decision.choices)];
    const T score = expert < 0 ? T{-1} : scores[static_cast<size_t>(token * decision.shape.experts + expert)];
    return score == score ? score : T{-1};
  };
  for (int64_t group = 0; group < decision.shape.groups(); ++group) {
    std::stable_sort(order.begin() + group * decision.shape.group_tokens, order.begin() + group_end(decision.shape, group),
                     [&](int32_t a, int32_t b) { return first_score(a) > first_score(b); });
  }
}

template <class T>
void sampling_scores(std::span<const T> probabilities, const Random& random, const RouterShape& shape, std::vector<T>& scores) {
  scores.resize(probabilities.size());
  for (int64_t t = 0; t < shape.tokens; ++t) {
    for (int64_t e = 0; e < shape.experts; ++e) {
      const uint32_t word = random.word(static_cast<uint64_t>(t), static_cast<uint32_t>(e));
      const double unit = (static_cast<double>(word) + 0.5) * 0x1p-32;  // (0, 1)
      const size_t at = static_cast<size_t>(t * shape.experts + e);
      scores[at] = static_cast<T>(std::log(static_cast<double>(probabilities[at])) - std::log(-std::log(unit)));
    }
  }
}

std::vector<int32_t> hash_table(uint64_t seed, int layer, int64_t vocabulary, int experts) {
  std::vector<int32_t> table(static_cast<size_t>(vocabulary));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i % static_cast<size_t>(experts));
  const Random random(seed, Purpose::kRouterHash, static_cast<uint32_t>(layer), 0, 0);
  for (size_t i = table.size(); i > 1; --i) {
    const size_t other = static_cast<size_t>((uint64_t{random.word(i, 0)} * i) >> 32);  // below i
    std::swap(table[i - 1], table[other]);
  }
  return table;
}

#define SWITCHYARD_DECIDE_IN(T)                                                             \
  template void choose_experts(std::span<const T>, Decision&);                              \
  template void choose_tokens(std::span<const T>, int64_t, Decision&);                      \
  template void ask_second_at_random(std::span<const T>, const Random&, Decision&);         \
  template void order_by_score(std::span<const T>, const Decision&, std::vector<int32_t>&); \
  template void sampling_scores(std::span<const T>, const Random&, const RouterShape&, std::vector<T>&)
SWITCHYARD_DECIDE_IN(float);
SWITCHYARD_DECIDE_IN(double);
#undef SWITCHYARD_DECIDE_IN

}  // namespace switchyard
