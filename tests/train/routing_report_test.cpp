// What a step reports about its routers, for other routings than top-1.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/train/tiny_helper.h"

namespace switchyard {
namespace {

std::vector<LayerReport> layers_of(const std::function<void(MoeOptions&)>& change) {
  TinyJob job = tiny_job();
  change(job.trainer.model.moe);
  std::vector<LayerReport> layers;
  run_tiny(job, 2, [&](TinyRank& rank, Communicator& communicator) {
    rank.trainer().initialise(1);
    const StepReport report = rank.trainer().step(rank.batches());
    if (communicator.rank() == 0) layers = report.layers;
  });
  return layers;
}

double sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }
int64_t sum(const std::vector<int64_t>& values) { return std::accumulate(values.begin(), values.end(), int64_t{0}); }

TEST(RoutingReport, TwoChoicesATokenAreTwoAsksAndOneEntropy) {
  const std::vector<LayerReport> one = layers_of([](MoeOptions&) {}), two = layers_of([](MoeOptions&moe) { moe.top_k = 2; });
  ASSERT_FALSE(two.empty());
  for (size_t i = 0; i < two.size(); ++i) {
    EXPECT_EQ(two[i].tokens, one[i].tokens);
    EXPECT_EQ(two[i].asked, 2 * one[i].asked);
    EXPECT_EQ(two[i].dropped, sum(two[i].requested) - sum(two[i].kept));
    EXPECT_NEAR(sum(two[i].load()), 1, 1e-12);
    EXPECT_GT(two[i].dropped_fraction(), 0);
    EXPECT_LT(two[i].dropped_fraction(), 1);
    EXPECT_GT(two[i].entropy, 0.5 * std::log(6)) << "of a router that has learnt nothing yet: a mean over tokens, not over choices";
    EXPECT_LE(two[i].entropy, std::log(6));
  }
}

TEST(RoutingReport, ExpertsThatChooseDropTheTokensThatNoneTook) {
  for (const LayerReport& layer : layers_of([](MoeOptions& moe) {
         moe.router = RouterKind::kExpertChoice;
         moe.balance_loss = 0;
         moe.capacity_factor = 0.5;
       })) {
    EXPECT_EQ(layer.requested, layer.kept);
    EXPECT_EQ(layer.asked, layer.tokens);
    EXPECT_GE(layer.dropped_fraction(), 0.25) << "half a token an expert and token: at least a fraction is left";
    EXPECT_LT(layer.dropped_fraction(), 1);
  }
}

}  // namespace
}  // namespace switchyard
