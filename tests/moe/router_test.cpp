#include "src/moe/router.h"

#include <gtest/gtest.h>

#include <cmath>

#include "comm/self.h"
#include "tests/moe/moe_world.h"

namespace switchyard {
namespace {

MoeOptions with(double factor, int experts, int min_capacity, CapacityRounding rounding = CapacityRounding::kDown) {
  return {.experts = experts, .capacity_factor = factor, .min_capacity = min_capacity, .capacity_rounding = rounding};
}

TEST(Capacity, IsMeshTensorFlows) {
  // (tokens, experts, factor) of the table of capacity formulas, with Mesh TensorFlow's minimum of 4.
  EXPECT_EQ(capacity(with(1.25, 8, 4), 100, true), 15);
  EXPECT_EQ(capacity(with(1.0, 8, 4), 20, true), 4);
  EXPECT_EQ(capacity(with(1.0, 8, 4), 6, true), 4);
  EXPECT_EQ(capacity(with(1.25, 128, 4), 1030, true), 10);
  EXPECT_EQ(capacity(with(1.0, 64, 4), 4096, true), 64);
  EXPECT_EQ(capacity(with(1.0, 2048, 4), 2048, true), 4);
}

TEST(Capacity, RoundsAsAsked) {
  EXPECT_EQ(capacity(with(1.25, 128, 4, CapacityRounding::kDown), 1000, true), 9);
  EXPECT_EQ(capacity(with(1.25, 128, 4, CapacityRounding::kNearest), 1000, true), 10);
  EXPECT_EQ(capacity(with(1.25, 8, 4, CapacityRounding::kNearest), 100, true), 16);
  EXPECT_EQ(capacity(with(1.25, 128, 4, CapacityRounding::kNearest), 1030, true), 10);
  EXPECT_EQ(capacity(with(1.25, 128, 4, CapacityRounding::kUp), 1030, true), 11);
  EXPECT_EQ(capacity(with(1.0, 8, 1, CapacityRounding::kNearest), 20, true), 2) << "2.5 goes to the even number";
  EXPECT_EQ(capacity(with(1.0, 8, 1, CapacityRounding::kUp), 20, true), 3);
}

TEST(Capacity, IsAtMostTheGroupUnlessTheMinimumIsMore) {
  EXPECT_EQ(capacity(with(50, 2, 4), 10, true), 10);
  EXPECT_EQ(capacity(with(1e300, 2, 4), 10, true), 10);
  EXPECT_EQ(capacity(with(1.25, 2, 4), 3, true), 4);
}

TEST(Capacity, IsNeverZeroByRoundingAndFactorZeroDropsNothing) {
  EXPECT_EQ(capacity(with(1.0, 8, 0), 6, true), 1);
  EXPECT_EQ(capacity(with(0, 8, 4), 600, true), 600);
  EXPECT_EQ(capacity(with(0, 8, 4), 600, false), 150) << "training's factor is not evaluation's, which is 2 by default";
}

TEST(Capacity, DefaultsAreThePapers) {
  const MoeOptions defaults{.experts = 8};
  EXPECT_EQ(capacity(defaults, 1024, true), 160);   // 1.25
  EXPECT_EQ(capacity(defaults, 1024, false), 256);  // 2.0
  EXPECT_EQ(group_tokens_of(defaults, 4096), 4096);
  EXPECT_EQ(group_tokens_of({.group_tokens = 1024}, 4096), 1024);
  EXPECT_EQ(group_tokens_of({.group_tokens = 1024}, 300), 300);
  EXPECT_EQ(group_tokens_of(defaults, 0), 1) << "an empty lane has groups of some size too";
}

TEST(RouterLoss, WeighsByTheStepsCounts) {
  const MoeOptions options{.experts = 8, .balance_loss = 0.01, .z_loss = 0.001};
  EXPECT_DOUBLE_EQ(router_loss(options, 4, 1000, 3).balance, 8 * 0.01 / 4);
  EXPECT_DOUBLE_EQ(router_loss(options, 4, 1000, 3).z, 0.001 / 1000);
  EXPECT_EQ(router_loss(options, 0, 0, 3).balance, 0) << "a step without tokens must not divide by zero";
  EXPECT_EQ(router_loss(options, 0, 0, 3).z, 0);
}

TEST(RouterLoss, TheMeanOverLayersDividesAlpha) {
  const MoeOptions options{.experts = 8, .balance_loss = 0.012, .balance_over_layers = OverLayers::kMean, .z_loss = 0.001};
  EXPECT_DOUBLE_EQ(router_loss(options, 4, 1000, 3).balance, 8 * 0.004 / 4);
  EXPECT_DOUBLE_EQ(router_loss(options, 4, 1000, 3).z, 0.001 / 1000) << "the z loss is summed";
}

// A router alone, with as many experts as columns and the unit matrix as weight: x are the logits.
class LogitRouter {
 public:
  explicit LogitRouter(const MoeOptions& options, bool training = true)
      : options_(options), router_("moe", 0, {.width = options.experts}, options), ctx_{*backend_, saved_, scratch_, kPrecisionF64,
                                                                                        trace_,    Key(),  training, nullptr} {
    router_.visit([&](Parameter& weight) {
      const int64_t n = options.experts;
      const Buffer unit = make_buffer(Dtype::kF64, {n, n});
      fill(unit.tensor(Dtype::kF64, {n, n}), [](int64_t r, int64_t c) { return r == c; });
      for (const Side side : {Side::kForward, Side::kBackward}) {
        PackedMatrix& packed = side == Side::kForward ? weight.forward : weight.backward;
        packed = {Tensor(), Dtype::kF64, n, n, side};
        const int64_t bytes = backend_->packed_bytes(Dtype::kF64, n, n, side);
        packed.storage = Tensor(storage_.emplace_back(bytes).data(), Dtype::kI32, {bytes / 4});
        backend_->pack(packed, unit.tensor(Dtype::kF64, {n, n}));
      }
    });
  }

  // logits or probabilities, row by row; `pad` names the tokens that are padding.
  const Route& route(const std::vector<std::vector<double>>& rows, bool logarithm, const std::vector<int64_t>& pad = {}) {
    const int64_t tokens = static_cast<int64_t>(rows.size());
    const Tensor x = ctx_.keep(Dtype::kF64, {tokens, options_.experts});
    const Tensor mask = ctx_.keep(Dtype::kI32, {tokens});
    fill(x, [&](int64_t t, int64_t i) {
      const double value = rows[static_cast<size_t>(t)][static_cast<size_t>(i)];
      return logarithm ? std::log(value) : value;
    });
    fill(mask, [&](int64_t t, int64_t) { return std::find(pad.begin(), pad.end(), t) == pad.end(); });
    const int64_t counted = tokens - static_cast<int64_t>(pad.size());
    const int64_t group = group_tokens_of(options_, tokens);
    return router_.forward(ctx_, x, {.mask = mask, .sequence_length = tokens, .loss = router_loss(options_, (tokens + group - 1) / group, counted, 1)}, kept_);
  }
  const Route& probabilities(const std::vector<std::vector<double>>& rows) { return route(rows, true); }

  std::vector<int> experts() const { return integers(kept_.route.expert); }
  std::vector<int> positions() const { return integers(kept_.route.position); }
  const RouterStatistics& statistics() const { return kept_.statistics(); }
  Context& context() { return ctx_; }
  RouterState& state() { return router_.state(); }
  const Router::Saved& saved() const { return kept_; }

 private:
  static std::vector<int> integers(const Tensor& tensor) { return {tensor.get<int32_t>(), tensor.get<int32_t>() + tensor.elements()}; }

  MoeOptions options_;
  std::unique_ptr<Backend> backend_ = make_reference_backend();
  Router router_;
  Arena saved_{"saved"}, scratch_{"scratch"};
  Trace trace_;
  Context ctx_;
  std::vector<Buffer> storage_;
  Router::Saved kept_;
};

MoeOptions golden(int experts, int capacity) {
  return {.experts = experts, .capacity_factor = 1e-9, .min_capacity = capacity, .jitter = 0, .balance_loss = 1, .z_loss = 1};
}

TEST(Router, GoldenSlots) {
  LogitRouter router(golden(2, 2));
  const Route& route = router.probabilities({{.9, .1}, {.6, .4}, {.2, .8}, {.7, .3}, {.45, .55}, {.1, .9}});
  EXPECT_EQ(route.capacity, 2);
  EXPECT_EQ(router.experts(), (std::vector<int>{0, 0, 1, 0, 1, 1}));
  EXPECT_EQ(router.positions(), (std::vector<int>{0, 1, 2, -1, 3, -1})) << "exclusive count below capacity; sorted by (expert, slot)";
  EXPECT_EQ(router.statistics().requested, (std::vector<int64_t>{3, 3}));
  EXPECT_EQ(router.statistics().kept, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(router.statistics().tokens, 6);
  EXPECT_EQ(router.statistics().dropped, 2);
  EXPECT_NEAR(router.statistics().sums[0], 1.0, 1e-12);
}

TEST(Router, GoldenBalanceLoss) {
  LogitRouter router(golden(2, 6));
  router.probabilities({{.8, .2}, {.7, .3}, {.6, .4}, {.3, .7}, {.9, .1}, {.4, .6}});
  EXPECT_NEAR(router.statistics().sums[0], 1.0777778, 5e-8);
}

TEST(Router, GoldenZLossIsTheMeanOfSquaredLogSumExpOfLogits) {
  LogitRouter router(golden(4, 4));
  router.route({{1, 2, 3, 4}, {0, 0, 0, 0}, {-1, .5, 2, .25}}, false);
  EXPECT_NEAR(router.statistics().sums[1], 9.0835265, 5e-8);
}

TEST(Router, TiesChooseTheLowestIndexAndUniformRoutingCostsAlpha) {
  MoeOptions options = golden(5, 100);
  options.balance_loss = 0.01;
  LogitRouter router(options);
  router.route(std::vector<std::vector<double>>(10, {2, 2, 2, 2, 2}), false);
  EXPECT_EQ(router.experts(), std::vector<int>(10, 0));
  EXPECT_NEAR(router.statistics().sums[0], 0.01, 1e-15);
  EXPECT_NEAR(router.statistics().sums[2], 10 * std::log(5), 1e-12) << "entropy";
  EXPECT_NEAR(router.statistics().sums[3], 10 * 0.2, 1e-12) << "gates";
  router.route({{0, 3, 1, 3, 2}}, false);
  EXPECT_EQ(router.experts(), (std::vector<int>{1}));
}

TEST(Router, TheBalanceLossCountsChoicesBeforeDropping) {
  // f of an overfull expert is what was asked of it: dropping must not hide it.
  const std::vector<std::vector<double>> rows(8, {.9, .1});
  LogitRouter wide(golden(2, 8)), narrow(golden(2, 1));
  wide.probabilities(rows);
  narrow.probabilities(rows);
  EXPECT_EQ(narrow.statistics().dropped, 7);
  EXPECT_NEAR(narrow.statistics().sums[0], 2 * 0.9, 1e-12);
  EXPECT_EQ(narrow.statistics().sums[0], wide.statistics().sums[0]);
}

TEST(Router, CapacityIsCountedInEachGroup) {
  MoeOptions options = golden(2, 1);
  options.group_tokens = 3;
  LogitRouter router(options);
  // Groups: tokens 0-2, 3-5, and a shorter one of token 6.
  router.probabilities({{.9, .1}, {.9, .1}, {.2, .8}, {.9, .1}, {.1, .9}, {.1, .9}, {.9, .1}});
  EXPECT_EQ(router.positions(), (std::vector<int>{0, -1, 3, 1, 4, -1, 2})) << "expert 0 keeps tokens 0, 3, 6; expert 1 tokens 2, 4";
  EXPECT_EQ(router.saved().route.requested.rows(), 3);
  EXPECT_EQ(router.statistics().requested, (std::vector<int64_t>{4, 3}));
}

TEST(Router, PaddingTakesNoSlotAndNoPartInTheLosses) {
  const std::vector<std::vector<double>> rows{{.9, .1}, {.6, .4}, {.2, .8}, {.7, .3}};
  std::vector<std::vector<double>> padded{{.5, .5}, {.99, .01}};
  padded.insert(padded.end(), rows.begin(), rows.end());
  padded.push_back({.5, .5});
  LogitRouter plain(golden(2, 2)), with_padding(golden(2, 2));
  plain.route(rows, true);
  with_padding.route(padded, true, {0, 1, 6});
  std::vector<int> expected{-1, -1};
  for (const int position : plain.positions()) expected.push_back(position);
  expected.push_back(-1);
  EXPECT_EQ(with_padding.positions(), expected) << "the drop set of real tokens must not change";
  for (size_t i = 0; i < kRouterSums; ++i) EXPECT_EQ(with_padding.statistics().sums[i], plain.statistics().sums[i]) << "sum " << i;
  EXPECT_EQ(with_padding.statistics().tokens, 4);
}

TEST(Router, LaterTokensDoNotChangeEarlierOnes) {
  std::vector<std::vector<double>> rows;
  for (int64_t t = 0; t < 40; ++t) rows.push_back({noise("a", t), noise("b", t), noise("c", t)});
  LogitRouter router(golden(3, 5));
  router.route(rows, false);
  const std::vector<int> experts = router.experts();
  std::vector<bool> kept;
  for (const int position : router.positions()) kept.push_back(position >= 0);
  for (size_t first = 1; first < rows.size(); first += 6) {
    auto changed = rows;
    for (size_t t = first; t < rows.size(); ++t) changed[t] = {9, 0, 0};
    router.route(changed, false);
    for (size_t t = 0; t < first; ++t) {
      EXPECT_EQ(router.experts()[t], experts[t]);
      EXPECT_EQ(router.positions()[t] >= 0, kept[t]) << "token " << t << " when tokens from " << first << " on changed";
    }
  }
}

TEST(Router, CountsStayExactForManyTokensOfOneExpert) {
  MoeOptions options = golden(2, 4);
  options.capacity_factor = 0;
  LogitRouter router(options);
  router.route(std::vector<std::vector<double>>(70000, {0, 1}), false);
  EXPECT_EQ(router.statistics().kept, (std::vector<int64_t>{0, 70000}));
  EXPECT_EQ(router.positions().back(), 69999);
}

TEST(Router, JitterIsDrawnWhileTrainingOnlyAndLeavesTheInputAlone) {
  MoeOptions options = golden(2, 4);
  options.jitter = 0.1;
  const std::vector<std::vector<double>> rows{{1, 2}, {3, -1}, {0.5, 0.25}};
  LogitRouter training(options), evaluation(options, false);
  options.jitter = 0;
  LogitRouter plain(options);
  for (LogitRouter* router : {&training, &evaluation, &plain}) router->route(rows, false);
  EXPECT_NE(training.statistics().sums, plain.statistics().sums);
  EXPECT_EQ(evaluation.statistics().sums, plain.statistics().sums);
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t i = 0; i < 2; ++i) {
      EXPECT_EQ(training.saved().x.row<double>(t)[i], rows[static_cast<size_t>(t)][static_cast<size_t>(i)]) << "experts must see the un-jittered input";
    }
    // logsumexp of a jittered row lies within 10 % of the largest logit's size of the plain one.
    EXPECT_NEAR(training.saved().log_sum_exp.get<double>()[t], plain.saved().log_sum_exp.get<double>()[t], 0.31);
  }
}

TEST(Router, ABiasMovesChoicesAndLeavesGatesAndLossesAlone) {
  MoeOptions options = golden(3, 4);
  options.bias_rate = 0.1;
  LogitRouter router(options);
  router.state().bias = {-0.2f, 0.25f, 0};
  const Route& route = router.probabilities({{.5, .3, .2}, {.9, .05, .05}, {.2, .2, .6}});
  EXPECT_EQ(router.experts(), (std::vector<int>{1, 0, 2}));
  for (int64_t t = 0; t < 3; ++t) EXPECT_NEAR(route.gate.get<double>()[t], (std::vector<double>{.3, .9, .6})[static_cast<size_t>(t)], 1e-12);
  router.state().bias = {0, 0, 0};
  router.probabilities({{.5, .3, .2}, {.9, .05, .05}, {.2, .2, .6}});
  EXPECT_EQ(router.experts(), (std::vector<int>{0, 0, 2}));
}

TEST(Router, AGlobalBalanceTakesItsFractionsFromTheStepBefore) {
  MoeOptions options = golden(2, 6);
  options.balance_scope = BalanceScope::kGlobal;
  options.group_tokens = 2;
  LogitRouter router(options);
  const std::vector<std::vector<double>> rows{{.8, .2}, {.7, .3}, {.6, .4}, {.3, .7}};
  router.probabilities(rows);
  EXPECT_NEAR(router.statistics().sums[0], 2 * 0.5, 1e-12) << "uniform before the first step";
  router.state().counts = {30, 10};
  router.probabilities(rows);
  // Two groups, with the means (.75, .25) and (.45, .55).
  EXPECT_NEAR(router.statistics().sums[0], 2.0 / 2 * (.75 * .75 + .25 * .25 + .75 * .45 + .25 * .55), 1e-12);
}

TEST(Router, ReplayTakesRecordedExpertsAndCurrentGates) {
  MoeOptions options = golden(3, 1);
  LogitRouter router(options);
  RouteBook book;
  router.context().routes = &book;
  router.probabilities({{.5, .3, .2}, {.1, .2, .7}, {.6, .3, .1}});
  book.mode = RouteBook::Mode::kReplay;
  const Route& route = router.probabilities({{.2, .7, .1}, {.8, .1, .1}, {.1, .1, .8}});
  EXPECT_EQ(router.experts(), (std::vector<int>{0, 2, 0}));
  EXPECT_EQ(router.positions(), (std::vector<int>{0, 1, -1})) << "slots are assigned from the recorded experts";
  for (int64_t t = 0; t < 3; ++t) EXPECT_NEAR(route.gate.get<double>()[t], (std::vector<double>{.2, .1, .1})[static_cast<size_t>(t)], 1e-12);
}

TEST(Router, ReplayOfWhatWasNotRecordedThrows) {
  LogitRouter router(golden(2, 1));
  RouteBook book;
  book.mode = RouteBook::Mode::kReplay;
  router.context().routes = &book;
  EXPECT_THROW(router.probabilities({{.5, .5}}), InternalError);
  book.experts[{0, 0, 0}] = {0, 1};
  EXPECT_THROW(router.probabilities({{.5, .5}}), InternalError) << "another number of tokens";
  book.experts[{0, 0, 0}] = {2};
  EXPECT_THROW(router.probabilities({{.5, .5}}), InternalError) << "an expert that does not exist";
}

}  // namespace
}  // namespace switchyard
