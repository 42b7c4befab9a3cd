#include <algorithm>
#include <cmath>

#include "tests/moe/brute_force.h"

namespace switchyard {
namespace {

using Row = std::vector<double>;
using Matrix = std::vector<Row>;

Matrix zeros(int64_t rows, int64_t columns) { return Matrix(static_cast<size_t>(rows), Row(static_cast<size_t>(columns), 0.0)); }
Row flat(const Matrix& m) {
  Row all;
  for (const Row& row : m) all.insert(all.end(), row.begin(), row.end());
  return all;
}

void add(Row& to, const Row& row) {
  for (size_t i = 0; i < row.size(); ++i) to[i] += row[i];
}

// The weights of all experts and of the router, and their gradients.
struct Model {
  explicit Model(const Case& c) : router(zeros(c.options.experts, c.shape.width)) {
    const int64_t experts = c.options.experts, width = c.shape.width, hidden = c.shape.feed_forward;
    load(c, "moe.router.weight", router);
    for (int64_t e = 0; e < experts; ++e) {
      const std::string name = "moe.expert." + std::to_string(e);
      load(c, name + ".in.weight", in.emplace_back(zeros(hidden, width)));
      load(c, name + ".out.weight", out.emplace_back(zeros(width, hidden)));
      gate.emplace_back(zeros(hidden, width));
      if (c.shape.gated) load(c, name + ".gate.weight", gate.back());
      in_bias.emplace_back(zeros(1, hidden));
      gate_bias.emplace_back(zeros(1, hidden));
      out_bias.emplace_back(zeros(1, width));
      if (!c.shape.bias) continue;
      load(c, name + ".in.bias", in_bias.back());
      if (c.shape.gated) load(c, name + ".gate.bias", gate_bias.back());
      load(c, name + ".out.bias", out_bias.back());
    }
  }
  static void load(const Case& c, const std::string& name, Matrix& m) {
    for (size_t r = 0; r < m.size(); ++r) {
      for (size_t i = 0; i < m[r].size(); ++i) m[r][i] = c.weight(name, static_cast<int64_t>(r), static_cast<int64_t>(i), static_cast<int64_t>(m[r].size()));
    }
  }
  Matrix router;
  std::vector<Matrix> in, gate, out, in_bias, gate_bias, out_bias;
};

// What one token meets.
struct Token {
  bool counts = false, kept = false;
  size_t expert = 0;
  double slot = 0;
  Row x, u, logits, p, u_slope, g_slope, before, hidden, processed;  // slopes of hidden
  double log_sum_exp = 0;
};

class BruteForce {
 public:
  explicit BruteForce(const Case& c) : c_(c), model_(c) {}

  Result run() {
    for (int a = 0; a < c_.accumulate; ++a) {
      for (int lane = 0; lane < c_.lanes; ++lane) micro_batch(lane, a);
    }
    return std::move(result_);
  }

 private:
  void micro_batch(int lane, int a);
  void route(int lane, int a);
  void choose_kept();
  void expert_forward(int lane, int a, Token& token);
  void losses(const std::string& place);
  void backward(int lane, int a, const std::string& place);
  void expert_backward(const Token& token, const Row& dy, Row& dx);
  Row& gradient(const std::string& name, size_t size) {
    Row& g = result_[name];
    g.resize(size, 0.0);
    return g;
  }

  const Case& c_;
  Model model_;
  Result result_;
  std::vector<Token> tokens_;
  Matrix requested_;  // [group][expert]
  Row kept_;
};

void BruteForce::route(int lane, int a) {
  const double epsilon = c_.training ? c_.options.jitter : 0;
  const Random random(c_.seed, Purpose::kJitter, 3, 0, c_.first_token(lane, a));
  tokens_.assign(static_cast<size_t>(c_.tokens), Token());
  for (int64_t t = 0; t < c_.tokens; ++t) {
    Token& token = tokens_[static_cast<size_t>(t)];
    token.counts = c_.mask(lane, t) != 0;
    for (int64_t d = 0; d < c_.shape.width; ++d) {
      token.x.push_back(c_.x(lane, a, t, d));
      const double unit = static_cast<double>(unit_float(random.word(static_cast<uint64_t>(t), static_cast<uint32_t>(d))));
      token.u.push_back(1 - epsilon + 2 * epsilon * unit);
    }
    double total = 0;
    for (const Row& w : model_.router) {
      double logit = 0;
      for (size_t d = 0; d < w.size(); ++d) logit += w[d] * token.x[d] * token.u[d];
      token.logits.push_back(logit);
      total += std::exp(logit);
    }
    token.log_sum_exp = std::log(total);
    for (const double logit : token.logits) token.p.push_back(std::exp(logit) / total);
    for (size_t i = 1; i < token.p.size(); ++i) {
      if (token.p[i] > token.p[token.expert]) token.expert = i;
    }
  }
}

void BruteForce::choose_kept() {
  const int64_t size = group_tokens_of(c_.options, c_.tokens);
  const double factor = c_.training ? c_.options.capacity_factor : c_.options.eval_capacity_factor;
  double capacity = std::max(std::min(std::floor(static_cast<double>(size) * factor / c_.options.experts), static_cast<double>(size)),
                             static_cast<double>(c_.options.min_capacity));
  if (factor == 0) capacity = static_cast<double>(size);
  requested_ = zeros((c_.tokens + size - 1) / size, c_.options.experts);
  kept_.assign(static_cast<size_t>(c_.options.experts), 0);
  for (int64_t t = 0; t < c_.tokens; ++t) {
    Token& token = tokens_[static_cast<size_t>(t)];
    if (!token.counts) continue;
    double& before = requested_[static_cast<size_t>(t / size)][token.expert];
    token.kept = before < capacity;
    before += 1;
    if (token.kept) token.slot = kept_[token.expert]++;
  }
}

struct Active {
  double value, slope;
};
Active activate(Activation activation, double u) {
  if (activation == Activation::kRelu) return {std::max(u, 0.0), u > 0 ? 1.0 : 0.0};
  const double scale = std::sqrt(2 / M_PI), t = std::tanh(scale * (u + 0.044715 * u * u * u));
  return {0.5 * u * (1 + t), 0.5 * (1 + t) + 0.5 * u * (1 - t * t) * scale * (1 + 3 * 0.044715 * u * u)};
}

void BruteForce::expert_forward(int lane, int a, Token& token) {
  const size_t e = token.expert;
  const double rate = c_.training ? c_.options.expert_dropout : 0;
  const Random random(c_.seed, Purpose::kExpertDropout, 3, 0,
                      expert_index(static_cast<uint64_t>(lane), static_cast<uint64_t>(a), e, static_cast<uint64_t>(token.slot)));
  for (size_t f = 0; f < model_.in[e].size(); ++f) {
    double u = model_.in_bias[e][0][f], g = c_.shape.gated ? model_.gate_bias[e][0][f] : 1;
    for (size_t d = 0; d < token.x.size(); ++d) {
      u += model_.in[e][f][d] * token.x[d];
      g += model_.gate[e][f][d] * token.x[d];
    }
    const double factor = rate > 0 && random.word(0, static_cast<uint32_t>(f)) < drop_threshold(rate) ? 0 : 1 / (1 - rate);
    const Active active = activate(c_.shape.activation, u);
    token.hidden.push_back(active.value * g * factor);
    token.u_slope.push_back(active.slope * g * factor);
    token.g_slope.push_back(active.value * factor);
  }
  for (size_t d = 0; d < token.x.size(); ++d) {
    double y = model_.out_bias[e][0][d];
    for (size_t f = 0; f < token.hidden.size(); ++f) y += model_.out[e][d][f] * token.hidden[f];
    token.processed.push_back(y);
  }
}

void BruteForce::losses(const std::string& place) {
  Row sums(kRouterSums, 0.0);
  const int64_t size = group_tokens_of(c_.options, c_.tokens);
  for (size_t g = 0; g < requested_.size(); ++g) {
    double count = 0;
    for (const double r : requested_[g]) count += r;
    for (int64_t t = 0; t < c_.tokens; ++t) {
      const Token& token = tokens_[static_cast<size_t>(t)];
      if (!token.counts || static_cast<size_t>(t / size) != g) continue;
      for (size_t i = 0; i < token.p.size(); ++i) {
        sums[0] += c_.loss().balance * (requested_[g][i] / count) * token.p[i] / count;
        sums[2] -= token.p[i] * std::log(token.p[i]);
      }
      sums[1] += c_.loss().z * token.log_sum_exp * token.log_sum_exp;
      sums[3] += token.p[token.expert];
    }
  }
  result_["sums" + place] = sums;
  Row counts(static_cast<size_t>(c_.options.experts), 0.0);
  for (const Row& group : requested_) {
    for (size_t i = 0; i < counts.size(); ++i) counts[i] += group[i];
  }
  counts.insert(counts.end(), kept_.begin(), kept_.end());
  result_["counts" + place] = counts;
}

void BruteForce::micro_batch(int lane, int a) {
  const std::string place = place_of(lane, a);
  route(lane, a);
  choose_kept();
  losses(place);
  Row& y = result_["y" + place];
  for (Token& token : tokens_) {
    result_["experts" + place].push_back(token.counts ? static_cast<double>(token.expert) : -1);
    result_["gate" + place].push_back(token.counts ? token.p[token.expert] : 0);
    double position = token.slot;
    for (size_t i = 0; i < token.expert; ++i) position += kept_[i];
    result_["position" + place].push_back(token.kept ? position : -1);
    if (token.kept) expert_forward(lane, a, token);
    for (size_t d = 0; d < token.x.size(); ++d) y.push_back(token.kept ? token.p[token.expert] * token.processed[d] : 0);
  }
  backward(lane, a, place);
}

void BruteForce::backward(int lane, int a, const std::string& place) {
  const size_t experts = model_.router.size(), width = model_.router[0].size();
  const size_t size = static_cast<size_t>(group_tokens_of(c_.options, c_.tokens));
  Row& drouter = gradient("moe.router.weight" + place, experts * width);
  Matrix dx = zeros(c_.tokens, c_.shape.width);
  for (size_t t = 0; t < tokens_.size(); ++t) {
    const Token& token = tokens_[t];
    if (!token.counts) continue;
    const Row& requested = requested_[t / size];
    double count = 0;
    for (const double r : requested) count += r;
    Row dp(experts, 0.0), dy;
    for (size_t i = 0; i < experts; ++i) dp[i] = c_.loss().balance * requested[i] / count / count;
    if (token.kept) {
      for (size_t d = 0; d < width; ++d) {
        dy.push_back(c_.dy(lane, a, static_cast<int64_t>(t), static_cast<int64_t>(d)));
        dp[token.expert] += dy[d] * token.processed[d];
      }
      expert_backward(token, dy, dx[t]);
    }
    for (size_t i = 0; i < experts; ++i) {
      double dlogit = 2 * c_.loss().z * token.log_sum_exp * token.p[i];
      for (size_t j = 0; j < experts; ++j) dlogit += dp[j] * token.p[j] * ((i == j ? 1.0 : 0.0) - token.p[i]);
      for (size_t d = 0; d < width; ++d) {
        drouter[i * width + d] += dlogit * token.x[d] * token.u[d];
        dx[t][d] += dlogit * model_.router[i][d] * token.u[d];
      }
    }
  }
  result_["dx" + place] = flat(dx);
}

void BruteForce::expert_backward(const Token& token, const Row& dy, Row& dx) {
  const size_t e = token.expert, width = dy.size(), hidden = token.hidden.size();
  const std::string name = "moe.expert." + std::to_string(e);
  const double gate = token.p[e];
  Row& din = gradient(name + ".in.weight", hidden * width);
  Row& dout = gradient(name + ".out.weight", width * hidden);
  Row dgate(hidden * width, 0.0), dgate_bias(hidden, 0.0);
  for (size_t f = 0; f < hidden; ++f) {
    double dh = 0;
    for (size_t d = 0; d < width; ++d) {
      dout[d * hidden + f] += gate * dy[d] * token.hidden[f];
      dh += gate * dy[d] * model_.out[e][d][f];
    }
    const double du = dh * token.u_slope[f], dg = c_.shape.gated ? dh * token.g_slope[f] : 0;
    for (size_t d = 0; d < width; ++d) {
      din[f * width + d] += du * token.x[d];
      dgate[f * width + d] = dg * token.x[d];
      dx[d] += du * model_.in[e][f][d] + dg * model_.gate[e][f][d];
    }
    dgate_bias[f] = dg;
    if (c_.shape.bias) gradient(name + ".in.bias", hidden)[f] += du;
  }
  if (c_.shape.gated) add(gradient(name + ".gate.weight", hidden * width), dgate);
  if (c_.shape.gated && c_.shape.bias) add(gradient(name + ".gate.bias", hidden), dgate_bias);
  for (size_t d = 0; c_.shape.bias && d < width; ++d) gradient(name + ".out.bias", width)[d] += gate * dy[d];
}

}  // namespace

Result brute_force(const Case& c) { return BruteForce(c).run(); }

}  // namespace switchyard
