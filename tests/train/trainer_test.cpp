// The number of ranks and of threads is not a hyper-parameter: the same bits, step by step.
#include "src/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tests/train/tiny_helper.h"

namespace switchyard {
namespace {

TEST(Trainer, EveryNumberOfRanksComputesTheSameBits) {
  const TinyJob job = tiny_job();
  const Trail one = trail_of(job, 1, 4);
  for (int ranks = 2; ranks <= 8; ++ranks) expect_same(trail_of(job, ranks, 4), one, std::to_string(ranks) + " ranks");
}

TEST(Trainer, TheTestsJobDropsTokensClipsAndLearns) {
  const TinyJob job = tiny_job();
  const Trail trail = trail_of(job, 1, 40);
  EXPECT_GT(trail.dropped.front(), 0) << "capacity does not bind";
  EXPECT_GT(trail.norms.front(), job.trainer.optimizer.clip_norm) << "clipping is not active";
  EXPECT_LT(trail.losses.back(), trail.losses.front() - 0.5) << "40 steps should have learnt something";
}

TEST(Trainer, EvaluationHasNoMemory) {
  run_tiny(tiny_job(), 2, [](TinyRank& rank, Communicator&) {
    rank.trainer().initialise(1);
    rank.train(2);
    const double once = rank.evaluate().nats;
    EXPECT_EQ(rank.evaluate().nats, once);
  });
}

class TrainerOnCpu : public testing::TestWithParam<Dtype> {};

TEST_P(TrainerOnCpu, RanksAndThreadsDoNotChangeBits) {
  TinyJob job = tiny_job();
  job.cpu_backend = true;
  job.trainer.precision = GetParam() == Dtype::kBF16 ? kPrecisionBF16 : kPrecisionF32;
  const Trail one = trail_of(job, 1, 3);
  for (const int ranks : {2, 3, 8}) expect_same(trail_of(job, ranks, 3), one, std::to_string(ranks) + " ranks");
  job.threads = 2;
  expect_same(trail_of(job, 1, 3), one, "two threads");
}

INSTANTIATE_TEST_SUITE_P(Precisions, TrainerOnCpu, testing::Values(Dtype::kF32, Dtype::kBF16),
                         [](const testing::TestParamInfo<Dtype>& parameter) { return std::string(name(parameter.param)); });

TEST(Trainer, WithoutAccumulationAndWithDenseLayersOnlyTheBitsAreTheSameToo) {
  TinyJob job = tiny_job();
  job.trainer.train.accumulate = 1;
  job.trainer.model.moe.experts = 1;
  const Trail one = trail_of(job, 1, 3);
  for (const int ranks : {3, 4}) expect_same(trail_of(job, ranks, 3), one, std::to_string(ranks) + " ranks");
}

TEST(Trainer, RanksBeyondExpertsHostNoneAndChangeNothing) {
  TinyJob job = tiny_job();
  job.trainer.model.moe.experts = 3;
  expect_same(trail_of(job, 8, 2), trail_of(job, 1, 2), "8 ranks, 3 experts");
}

TEST(Trainer, PlainSgdWithoutClippingGivesTheSameWeights) {
  TinyJob job = tiny_job();
  job.trainer.optimizer = {.kind = OptimizerKind::kSgd, .momentum = 0, .decay = 0, .clip_norm = 0};
  job.trainer.schedule = {.kind = ScheduleKind::kConstant, .rate = 0.05};
  expect_same(trail_of(job, 4, 5), trail_of(job, 1, 5), "4 ranks, SGD");
}

TEST(Trainer, AnInfiniteLossSkipsTheUpdateOnEveryRankAndAdvancesTheCursor) {
  for (const int ranks : {1, 3}) {
    run_tiny(tiny_job(), ranks, [&](TinyRank& rank, Communicator& communicator) {
      rank.trainer().initialise(1);
      rank.train(1);
      // One weight of one owner becomes infinite.
      if (communicator.rank() == ranks - 1) {
        Tensor master = rank.trainer().runtime().store().owned().back().master;
        for (int64_t i = 0; i < master.elements(); ++i) master.get<float>()[i] = std::numeric_limits<float>::infinity();
      }
      rank.trainer().resume(rank.trainer().progress());
      const std::string before = rank.digest();
      const StepReport report = rank.trainer().step(rank.batches());
      EXPECT_FALSE(report.applied) << "rank " << communicator.rank();
      EXPECT_EQ(rank.digest(), before) << "weights or moments changed in a skipped step";
      EXPECT_EQ(rank.trainer().progress().step, 2);
      EXPECT_EQ(rank.trainer().progress().skips, 1);
    });
  }
}

// The first update of Adam moves every weight by the rate, whatever the gradient: m / sqrt(v) is 1 after correction.
TEST(Trainer, ASkippedStepDoesNotCountAsAnUpdateOfAdam) {
  TinyJob job = tiny_job();
  job.trainer.optimizer.decay = 0;
  job.trainer.optimizer.clip_norm = 0;
  job.trainer.schedule = {.kind = ScheduleKind::kConstant, .rate = 1e-3};
  run_tiny(job, 1, [&](TinyRank& rank, Communicator&) {
    rank.trainer().initialise(1);
    const OwnedBlock block = rank.trainer().runtime().store().owned().front();  // of the token table
    float* const weights = block.master.get<float>();
    const std::vector<float> before(weights, weights + block.master.elements());
    std::fill_n(weights, block.master.elements(), std::numeric_limits<float>::infinity());
    rank.trainer().resume({});
    ASSERT_FALSE(rank.trainer().step(rank.batches()).applied);
    std::copy(before.begin(), before.end(), weights);
    rank.trainer().resume(rank.trainer().progress());
    ASSERT_TRUE(rank.trainer().step(rank.batches()).applied);
    int moved = 0;
    for (int64_t i = 0; i < block.master.elements(); ++i) {
      if (std::abs(block.gradient.get<float>()[i]) < 1e-5f) continue;
      ++moved;
      ASSERT_NEAR(std::abs(weights[i] - before[static_cast<size_t>(i)]), 1e-3, 2e-5) << "weight " << i << ": t is not steps minus skips";
    }
    EXPECT_GT(moved, 100);
  });
}

TEST(Trainer, AfterTheFirstStepsNoMemoryIsTaken) {
  run_tiny(tiny_job(), 1, [&](TinyRank& rank, Communicator&) {
    rank.trainer().initialise(1);
    rank.train(3);
    const int64_t saved = rank.trainer().runtime().saved().reserved(), scratch = rank.trainer().runtime().scratch().reserved();
    rank.train(12);
    EXPECT_EQ(rank.trainer().runtime().saved().reserved(), saved);
    EXPECT_EQ(rank.trainer().runtime().scratch().reserved(), scratch);
    EXPECT_EQ(rank.trainer().runtime().saved().used(), 0);
    EXPECT_EQ(rank.trainer().runtime().scratch().used(), 0);
  });
}

}  // namespace
}  // namespace switchyard
