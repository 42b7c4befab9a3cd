#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/moe/variants.h"

namespace switchyard {
namespace {

using Row = std::vector<double>;

double in_bf16(double value) { return static_cast<double>(BFloat16(static_cast<float>(value))); }

// One choice of one token, in the order in which it wants to be asked.
struct Choice {
  size_t expert = 0;
  bool asked = true, kept = false;
};

struct Token {
  bool counts = false;
  Row x, logits, p;
  double log_sum_exp = 0;
  std::vector<Choice> choices;
};

class Reference {
 public:
  explicit Reference(const Case& c) : c_(c), o_(c.options), experts_(static_cast<size_t>(o_.experts)) {
    if (o_.router == RouterKind::kHash) table_ = hash_table(o_.seed, 3, o_.vocabulary, o_.experts);
  }

  Result run() {
    for (int a = 0; a < c_.accumulate; ++a) {
      for (int lane = 0; lane < c_.lanes; ++lane) micro_batch(lane, a);
    }
    return std::move(result_);
  }

 private:
  size_t group_of(size_t t) const { return t / static_cast<size_t>(group_tokens_of(o_, c_.tokens)); }
  size_t groups() const { return tokens_.empty() ? 0 : group_of(tokens_.size() - 1) + 1; }
  double slots() const {
    const auto size = static_cast<double>(group_tokens_of(o_, c_.tokens));
    const double factor = c_.training ? o_.capacity_factor : o_.eval_capacity_factor;
    return factor == 0 ? size : std::max(1.0, std::floor(size * factor * (o_.capacity_times_top_k ? o_.top_k : 1) / o_.experts));
  }
  Random draws(Purpose purpose, int lane, int a) const { return Random(c_.seed, purpose, 3, 0, c_.first_token(lane, a)); }

  void micro_batch(int lane, int a);
  void probabilities(int lane, int a);
  double input(int lane, int a, size_t t, size_t d) const;
  void choose(int lane, int a);
  void let_experts_choose();
  void give_slots();
  double gate(const Token& token, const Choice& choice) const;
  void sums(const std::string& place);
  void counts(const std::string& place);
  Row expert_output(size_t e, const Row& x) const;

  const Case& c_;
  const MoeOptions& o_;
  size_t experts_;
  std::vector<int32_t> table_;
  std::vector<Token> tokens_;
  Result result_;
};

// What the router sees of x.
double Reference::input(int lane, int a, size_t t, size_t d) const {
  double value = c_.x(lane, a, static_cast<int64_t>(t), static_cast<int64_t>(d));
  if (c_.training && o_.exploration == Exploration::kInputJitter && o_.jitter > 0) {
    value *= 1 - o_.jitter + 2 * o_.jitter * static_cast<double>(unit_float(draws(Purpose::kJitter, lane, a).word(t, static_cast<uint32_t>(d))));
  }
  if (c_.training && o_.exploration == Exploration::kInputDropout) {
    const bool dropped = draws(Purpose::kRouterDropout, lane, a).word(t, static_cast<uint32_t>(d)) < drop_threshold(o_.jitter);
    value = dropped ? 0 : value / (1 - o_.jitter);
  }
  return o_.router_bf16 ? in_bf16(value) : value;
}

void Reference::probabilities(int lane, int a) {
  const auto width = static_cast<size_t>(c_.shape.width);
  tokens_.assign(static_cast<size_t>(c_.tokens), Token());
  for (size_t t = 0; t < tokens_.size(); ++t) {
    Token& token = tokens_[t];
    token.counts = c_.mask(lane, static_cast<int64_t>(t)) != 0;
    for (size_t d = 0; d < width; ++d) token.x.push_back(c_.x(lane, a, static_cast<int64_t>(t), static_cast<int64_t>(d)));
    for (size_t e = 0; e < experts_; ++e) {
      double logit = 0;
      for (size_t d = 0; d < width; ++d) {
        const double w = c_.weight("moe.router.weight", static_cast<int64_t>(e), static_cast<int64_t>(d), c_.shape.width);
        logit += input(lane, a, t, d) * (o_.router_bf16 ? in_bf16(w) : w);
      }
      if (o_.router_bf16) logit = in_bf16(logit);
      if (c_.training && o_.exploration == Exploration::kLogitNoise) {
        const auto unit = static_cast<double>(unit_float(draws(Purpose::kRouterNoise, lane, a).word(t, static_cast<uint32_t>(e))));
        logit += 1 - o_.jitter + 2 * o_.jitter * unit;
      }
      token.logits.push_back(logit);
    }
    double total = 0;
    for (const double logit : token.logits) total += std::exp(logit);
    token.log_sum_exp = std::log(total);
    for (const double logit : token.logits) token.p.push_back(std::exp(logit) / total);
  }
}

void Reference::choose(int lane, int a) {
  for (size_t t = 0; t < tokens_.size(); ++t) {
    Token& token = tokens_[t];
    if (!token.counts) continue;
    if (o_.router == RouterKind::kHash) {
      token.choices.push_back({.expert = static_cast<size_t>(table_[static_cast<size_t>(c_.token(lane, static_cast<int64_t>(t)))])});
      continue;
    }
    Row scores = token.p;
    for (size_t e = 0; c_.training && o_.exploration == Exploration::kSample && e < experts_; ++e) {
      const double unit = (static_cast<double>(draws(Purpose::kRouterSample, lane, a).word(t, static_cast<uint32_t>(e))) + 0.5) / 4294967296.0;
      scores[e] = std::log(token.p[e]) - std::log(-std::log(unit));
    }
    std::vector<size_t> best(experts_);
    std::iota(best.begin(), best.end(), size_t{0});
    std::stable_sort(best.begin(), best.end(), [&](size_t i, size_t j) { return scores[i] > scores[j]; });
    for (size_t c = 0; c < static_cast<size_t>(o_.top_k); ++c) token.choices.push_back({.expert = best[c]});
    if (c_.training && o_.second_policy == SecondPolicy::kRandom) {
      const auto unit = static_cast<double>(unit_float(draws(Purpose::kSecondExpert, lane, a).word(t, 0)));
      token.choices[1].asked = unit < 2 * gate(token, token.choices[1]);
    }
  }
}

// Each expert takes the likeliest token that it does not have yet, until it is full.
void Reference::let_experts_choose() {
  for (size_t g = 0; g < groups(); ++g) {
    for (size_t e = 0; e < experts_; ++e) {
      std::vector<bool> taken(tokens_.size(), false);
      for (double n = 0; n < slots(); ++n) {
        size_t best = tokens_.size();
        for (size_t t = 0; t < tokens_.size(); ++t) {
          if (group_of(t) != g || !tokens_[t].counts || taken[t]) continue;
          if (best == tokens_.size() || tokens_[t].p[e] > tokens_[best].p[e]) best = t;
        }
        if (best == tokens_.size()) break;
        taken[best] = true;
        tokens_[best].choices.push_back({.expert = e, .kept = true});
      }
    }
  }
}

void Reference::give_slots() {
  std::vector<Row> used(groups(), Row(experts_, 0.0));
  std::vector<size_t> order(tokens_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (o_.order == SlotOrder::kBatchPrioritised) {
    const auto priority = [&](size_t t) { return tokens_[t].choices.empty() ? -1 : tokens_[t].p[tokens_[t].choices[0].expert]; };
    std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return priority(i) > priority(j); });
  }
  for (size_t c = 0; c < static_cast<size_t>(o_.top_k); ++c) {
    for (const size_t t : order) {
      Token& token = tokens_[t];
      if (c >= token.choices.size() || !token.choices[c].asked) continue;
      const bool served = std::any_of(token.choices.begin(), token.choices.end(), [](const Choice& choice) { return choice.kept; });
      if (o_.router == RouterKind::kNoTokenLeftBehind && served) continue;
      double& count = used[group_of(t)][token.choices[c].expert];
      token.choices[c].kept = count < slots();
      count += token.choices[c].kept ? 1 : 0;
    }
  }
}

double Reference::gate(const Token& token, const Choice& choice) const {
  if (o_.gate == GateKind::kMaskOnly || o_.router == RouterKind::kHash) return 1;
  double total = 0;
  for (const Choice& other : token.choices) total += token.p[other.expert];
  return token.p[choice.expert] / (o_.gate == GateKind::kRenormalised ? total : 1);
}

void Reference::sums(const std::string& place) {
  Row all(kRouterSums, 0.0);
  for (const Token& token : tokens_) {
    if (o_.router == RouterKind::kHash) all[3] += token.counts;
    if (!token.counts || o_.router == RouterKind::kHash) continue;
    all[1] += c_.loss().z * token.log_sum_exp * token.log_sum_exp;
    for (const double p : token.p) all[2] -= p * std::log(p);
    double best = 0;
    for (const Choice& choice : token.choices) best = std::max(best, token.p[choice.expert]);
    all[3] += best;
  }
  for (size_t g = 0; o_.router != RouterKind::kExpertChoice && o_.router != RouterKind::kHash && g < groups(); ++g) {
    double size = 0, choices = 0;
    Row fell(experts_, 0.0), mass(experts_, 0.0);
    for (size_t t = 0; t < tokens_.size(); ++t) {
      if (group_of(t) != g || !tokens_[t].counts) continue;
      size += 1;
      for (const Choice& choice : tokens_[t].choices) fell[choice.expert] += 1;
      choices += static_cast<double>(tokens_[t].choices.size());
      for (size_t e = 0; e < experts_; ++e) mass[e] += tokens_[t].p[e];
    }
    for (size_t e = 0; size > 0 && e < experts_; ++e) all[0] += c_.loss().balance * (fell[e] / choices) * (mass[e] / size);
  }
  result_["sums" + place] = all;
}

void Reference::counts(const std::string& place) {
  Row requested(experts_, 0.0), kept(experts_, 0.0);
  for (const Token& token : tokens_) {
    for (const Choice& choice : token.choices) {
      const bool later = o_.router == RouterKind::kNoTokenLeftBehind && &choice != &token.choices[0];
      requested[choice.expert] += choice.asked && !later ? 1 : 0;
      kept[choice.expert] += choice.kept ? 1 : 0;
    }
  }
  requested.insert(requested.end(), kept.begin(), kept.end());
  result_["counts" + place] = requested;
}

Row Reference::expert_output(size_t e, const Row& x) const {
  const std::string name = "moe.expert." + std::to_string(e);
  const int64_t width = c_.shape.width, hidden = c_.shape.feed_forward;
  Row y(x.size(), 0.0);
  for (int64_t f = 0; f < hidden; ++f) {
    double h = 0;
    for (int64_t d = 0; d < width; ++d) h += c_.weight(name + ".in.weight", f, d, width) * x[static_cast<size_t>(d)];
    for (int64_t d = 0; h > 0 && d < width; ++d) y[static_cast<size_t>(d)] += c_.weight(name + ".out.weight", d, f, hidden) * h;
  }
  return y;
}

void Reference::micro_batch(int lane, int a) {
  const std::string place = place_of(lane, a);
  probabilities(lane, a);
  if (o_.router == RouterKind::kExpertChoice) {
    let_experts_choose();
  } else {
    choose(lane, a);
    give_slots();
  }
  sums(place);
  counts(place);
  Row& y = result_["y" + place];
  for (const Token& token : tokens_) {
    Row row(token.x.size(), 0.0);
    for (const Choice& choice : token.choices) {
      if (!choice.kept) continue;
      const Row output = expert_output(choice.expert, token.x);
      for (size_t d = 0; d < row.size(); ++d) row[d] += gate(token, choice) * output[d];
    }
    y.insert(y.end(), row.begin(), row.end());
  }
}

}  // namespace

Result variant_reference(const Case& c) { return Reference(c).run(); }

}  // namespace switchyard
