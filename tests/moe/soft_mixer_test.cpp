// Soft MoE against its formulas, by central differences, and on other numbers of ranks.
#include "src/moe/soft_mixer.h"

#include "tests/moe/gradient_check.h"

namespace switchyard {
namespace {

using Row = std::vector<double>;
using Matrix = std::vector<Row>;

Case soft() {
  Case c;
  c.options.router = RouterKind::kSoft;
  c.options.soft_slots = 2;
  c.sequence_length = 8;  // three sequences
  c.shape.bias = true;
  return c;
}

// Sequence 1 of lane 5 is all padding; elsewhere some tokens are.
int padded(int lane, int64_t t) { return (lane == 5 && t / 8 == 1) || t % (lane + 2) == 1 ? 0 : 1; }

// The layer's output for one sequence, from the formulas alone.
class Formulas {
 public:
  Formulas(const Case& c, int lane, int64_t first) : c_(c) {
    for (int64_t t = first; t < first + c.sequence(); ++t) {
      x_.emplace_back();
      for (int64_t d = 0; d < c.shape.width; ++d) x_.back().push_back(c.x(lane, 0, t, d));
      counts_.push_back(c.mask(lane, t) != 0);
    }
  }

  Matrix output() {
    const int64_t slots = c_.options.experts * c_.options.soft_slots;
    Matrix y(x_.size(), Row(static_cast<size_t>(c_.shape.width), 0.0));
    for (int64_t m = 0; m < slots; ++m) {
      const Row processed = expert(m / c_.options.soft_slots, slot_input(m));
      for (size_t t = 0; t < x_.size(); ++t) {
        if (!counts_[t]) continue;
        double all = 0;
        for (int64_t other = 0; other < slots; ++other) all += std::exp(logit(t, other));
        for (size_t d = 0; d < processed.size(); ++d) y[t][d] += std::exp(logit(t, m)) / all * processed[d];
      }
    }
    return y;
  }

 private:
  double logit(size_t t, int64_t m) const {
    double sum = 0;
    for (int64_t d = 0; d < c_.shape.width; ++d) sum += c_.weight("moe.router.weight", m, d, c_.shape.width) * x_[t][static_cast<size_t>(d)];
    return sum;
  }

  Row slot_input(int64_t m) const {
    Row mean(static_cast<size_t>(c_.shape.width), 0.0);
    double all = 0;
    for (size_t t = 0; t < x_.size(); ++t) all += counts_[t] ? std::exp(logit(t, m)) : 0;
    for (size_t t = 0; t < x_.size(); ++t) {
      for (size_t d = 0; counts_[t] && d < mean.size(); ++d) mean[d] += std::exp(logit(t, m)) / all * x_[t][d];
    }
    return mean;
  }

  Row expert(int64_t e, const Row& input) const {
    const std::string name = "moe.expert." + std::to_string(e);
    const int64_t width = c_.shape.width, hidden = c_.shape.feed_forward;
    Row y;
    for (int64_t d = 0; d < width; ++d) y.push_back(c_.weight(name + ".out.bias", 0, d, width));
    for (int64_t f = 0; f < hidden; ++f) {
      double h = c_.weight(name + ".in.bias", 0, f, hidden);
      for (int64_t d = 0; d < width; ++d) h += c_.weight(name + ".in.weight", f, d, width) * input[static_cast<size_t>(d)];
      for (int64_t d = 0; h > 0 && d < width; ++d) y[static_cast<size_t>(d)] += c_.weight(name + ".out.weight", d, f, hidden) * h;
    }
    return y;
  }

  const Case& c_;
  Matrix x_;
  std::vector<bool> counts_;
};

double largest_difference(const Case& c, const Result& actual, int lane) {
  double largest = 0;
  const Row& y = actual.at("y" + place_of(lane, 0));
  for (int64_t first = 0; first < c.tokens; first += c.sequence()) {
    const Matrix expected = Formulas(c, lane, first).output();
    for (int64_t i = 0; i < c.sequence() * c.shape.width; ++i) {
      const double difference =
          y[static_cast<size_t>(first * c.shape.width + i)] - expected[static_cast<size_t>(i / c.shape.width)][static_cast<size_t>(i % c.shape.width)];
      largest = std::max(largest, std::abs(difference));
    }
  }
  return largest;
}

TEST(SoftMixer, TheOutputIsThatOfTheFormulas) {
  Case c = soft();
  c.mask = padded;
  const Result actual = run_step(c, 1);
  for (int lane = 0; lane < c.lanes; ++lane) EXPECT_LE(largest_difference(c, actual, lane), 1e-12) << "lane " << lane;
}

TEST(SoftMixer, OnTheCpuTheOutputIsThatOfTheFormulas) {
  Case c = soft();
  c.mask = padded;
  c.backend = [] { return make_cpu_backend(1); };
  for (const Precision& precision : {kPrecisionF32, kPrecisionBF16}) {
    c.precision = precision;
    const Result actual = run_step(c, 1);
    // Outputs are about 1. BF16 rounds weights, slots, hidden elements and outputs, each by up to 2^-9.
    const double tolerance = precision.activation == Dtype::kBF16 ? 0.05 : 1e-5;
    for (int lane = 0; lane < c.lanes; ++lane) EXPECT_LE(largest_difference(c, actual, lane), tolerance) << name(precision.activation) << ", lane " << lane;
  }
}

TEST(SoftMixer, GradientsAgreeWithDifferences) {
  Case c = soft();
  c.lanes = 1;
  c.tokens = 12;
  c.sequence_length = 6;
  c.shape.width = 5;
  c.shape.feed_forward = 7;
  c.options.experts = 3;
  c.options.expert_dropout = 0.25;
  c.mask = [](int, int64_t t) { return t == 3 ? 0 : 1; };
  GradientCheck check(c);
  EXPECT_EQ(check.analytic().size(), 2u + 3u * 4u) << "x, the mixer, and four parameters of each expert";
  EXPECT_GT(norm(check.analytic().at("moe.router.weight")), 1e-3);
  expect_gradients(check);
}

TEST(SoftMixer, BitsAreTheSameOnAnyNumberOfRanks) {
  Case c = soft();
  c.mask = padded;
  c.options.experts = 6;
  c.options.expert_dropout = 0.3;
  c.accumulate = 2;
  c.backend = [] { return make_cpu_backend(1); };
  for (const Precision& precision : {kPrecisionF32, kPrecisionBF16}) {
    c.precision = precision;
    const Result alone = run_step(c, 1);
    for (const int ranks : {2, 3, 4, 8}) EXPECT_EQ(differences(alone, run_step(c, ranks)), "") << "on " << ranks << " ranks, " << name(precision.activation);
  }
}

TEST(SoftMixer, WhatStandsInPaddingChangesNothing) {
  Case c = soft();
  c.mask = [](int, int64_t t) { return t % 8 < 5 ? 1 : 0; };
  const Result before = run_step(c, 1);
  c.x_scale = [](int64_t t) { return t % 8 < 5 ? 1 : 100; };
  EXPECT_EQ(differences(before, run_step(c, 1)), "");
  for (int64_t t = 5; t < 8; ++t) {
    for (const char* what : {"y 3 0", "dx 3 0"}) EXPECT_EQ(before.at(what)[static_cast<size_t>(t * c.shape.width)], 0) << what << ", row " << t;
  }
}

TEST(SoftMixer, EveryExpertHasTheSameLoadAndNothingIsDropped) {
  const Case c = soft();
  const Result actual = run_step(c, 2);
  EXPECT_EQ(actual.at("counts 3 0"), Row(8, 6.0)) << "requested and kept: two slots of each of three sequences";
}

}  // namespace
}  // namespace switchyard
