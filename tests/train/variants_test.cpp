// Whole models whose MoE layers have more, or other, than top-1 routing: the same bits on any number of ranks.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/train/resume_helper.h"

namespace switchyard {
namespace {

TinyJob soft_job() {
  TinyJob job = tiny_job();
  job.trainer.model.moe.router = RouterKind::kSoft;
  job.trainer.model.moe.soft_slots = 3;
  job.trainer.model.moe.balance_loss = 0;
  job.trainer.model.moe.z_loss = 0;
  return job;
}

TinyJob shared_job() {
  TinyJob job = tiny_job();
  job.trainer.model.moe.shared_experts = 2;
  job.trainer.model.moe.feed_forward = 10;
  job.trainer.model.moe.experts = 9;
  job.trainer.model.moe.top_k = 2;
  return job;
}

class Variants : public testing::TestWithParam<const char*> {
 protected:
  static TinyJob job() { return std::string(GetParam()) == "Soft" ? soft_job() : shared_job(); }
};

TEST_P(Variants, EveryNumberOfRanksComputesTheSameBits) {
  const TinyJob job = Variants::job();
  const Trail alone = trail_of(job, 1, 4);
  for (const int ranks : {2, 3, 4, 8}) expect_same(trail_of(job, ranks, 4), alone, std::to_string(ranks) + " ranks");
}

TEST_P(Variants, AreResumedOnOtherNumbersOfRanks) {
  const TinyJob job = Variants::job();
  const TemporaryFolder folder;
  const std::vector<std::string> digests = train_saving_every_step(job, 2, 4, folder.path());
  EXPECT_EQ(resume_and_train(job, 3, folder.path(), 2, 4), digests[4]);
}

TEST_P(Variants, Learn) {
  const Trail trail = trail_of(Variants::job(), 1, 40);
  EXPECT_LT(trail.losses.back(), trail.losses.front() - 0.5);
}

INSTANTIATE_TEST_SUITE_P(All, Variants, testing::Values("Soft", "Shared"),
                         [](const testing::TestParamInfo<const char*>& parameter) { return parameter.param; });

TEST(SoftMoe, DropsNothingAndLoadsAllExpertsAlike) {
  const Trail trail = trail_of(soft_job(), 2, 1);
  ASSERT_EQ(trail.evaluation.layers.size(), 1u);
  const LayerReport& layer = trail.evaluation.layers[0];
  EXPECT_EQ(layer.dropped, 0);
  for (const double load : layer.load()) EXPECT_DOUBLE_EQ(load, 1.0 / 6);
  EXPECT_GT(layer.entropy, 0.5);
  EXPECT_LE(layer.entropy, std::log(18.0) + 1e-9) << "of the weights of 6 * 3 slots";
  EXPECT_EQ(layer.tokens, trail.evaluation.targets) << "every token of the hold-out has a target";
}

}  // namespace
}  // namespace switchyard
