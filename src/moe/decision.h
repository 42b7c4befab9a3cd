// Decision: which choices of a micro-batch's tokens get which slots, decided on the host by pure functions. They take
// probabilities as numbers and know no device, no layer and no ranks; RoutingPolicy (policy.h) calls them in order:
// choose, then ask for slots.
//
// Scores and probabilities are [T, E] of float or double, row by row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/rng.h"

namespace switchyard {

inline constexpr int32_t kNoChoice = -1;
// An expert that was considered but not asked: its probability counts where gates are renormalised and in the balance
// loss, but it gets no slot.
constexpr int32_t not_asked(int32_t expert) { return -2 - expert; }
// The expert of a choice, asked or not; -1: none.
constexpr int32_t considered(int32_t choice) { return choice >= kNoChoice ? choice : -2 - choice; }

// Vectors keep their memory from micro-batch to micro-batch.
struct Decision {
  RouterShape shape;
  int64_t choices = 1;             // k
  std::vector<int32_t> mask;       // [T], 0 where padding
  std::vector<int32_t> expert;     // [T, k] the choice's expert, kNoChoice, or not_asked(expert)
  std::vector<int32_t> position;   // [T, k] the choice's entry, -1: none
  std::vector<int32_t> source;     // [entries] token * k + choice
  std::vector<int32_t> requested;  // [G, E] choices that asked
  std::vector<int32_t> kept;       // [E] entries

  bool counts(int64_t token) const { return mask[static_cast<size_t>(token)] != 0; }
  // Makes room for a micro-batch, without choices and without padding.
  void begin(const RouterShape& its_shape, int64_t its_choices);
};

// ---- choosing: fills expert ------------------------------------------------------------------------------------------

// Each token its k experts of the largest scores, best first, the lowest index on a tie.
template <class T>
void choose_experts(std::span<const T> scores, Decision& decision);

// Each expert, in every group, its `capacity` tokens of the largest scores, the first on a tie. k is E: choice e of a
// token is expert e or none.
template <class T>
void choose_tokens(std::span<const T> scores, int64_t capacity, Decision& decision);

// Each token the expert that the table has for its number. k is 1.
void choose_by_table(std::span<const int32_t> tokens, std::span<const int32_t> table, Decision& decision);

// The second choice is asked only where a draw is below twice its gate (GShard, algorithm 1). gates [T, 2].
template <class T>
void ask_second_at_random(std::span<const T> gates, const Random& random, Decision& decision);

// ---- slots: fills all but expert -------------------------------------------------------------------------------------

// In every group all first choices ask before any second choice does (GShard), each round in the order of
// `order` [T], which lists every group's tokens. An expert keeps the first `capacity` that ask it.
void ask_for_slots(std::span<const int32_t> order, int64_t capacity, Decision& decision);
// The same, but who has a slot asks no more, and later choices become not_asked (switch.md 1.10). Only first choices
// count as requested.
void ask_until_kept(std::span<const int32_t> order, int64_t capacity, Decision& decision);
// All but expert and position from these two, of a decision that was recorded. All that asked count as requested.
void restore(Decision& decision);

// Tokens that are not padding, and those of them that have no entry.
int64_t tokens_of(const Decision& decision);
int64_t tokens_without_entry(const Decision& decision);

// ---- what they need --------------------------------------------------------------------------------------------------

// [T] 0, 1, 2, ...
void order_left_to_right(int64_t tokens, std::vector<int32_t>& order);
// [T] each group's tokens by the score of their first choice, the largest first, the first token on a tie; padding last.
template <class T>
void order_by_score(std::span<const T> scores, const Decision& decision, std::vector<int32_t>& order);

// Scores whose k largest are k draws without replacement with probabilities p: ln p + Gumbel noise. One draw for each
// token and expert.
template <class T>
void sampling_scores(std::span<const T> probabilities, const Random& random, const RouterShape& shape, std::vector<T>& scores);

// [vocabulary] a fixed expert for each number of a token: the remainders of a random permutation, so that each expert
// has as many numbers as any other, give or take one.
std::vector<int32_t> hash_table(uint64_t seed, int layer, int64_t vocabulary, int experts);

}  // namespace switchyard
