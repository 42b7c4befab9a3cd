// What routers remember: part of the state of a run, changed by applied steps alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <mutex>
#include <numeric>

#include "tests/train/resume_helper.h"

namespace switchyard {
namespace {

// Two MoE layers, with a selection bias and with the balance loss of whole steps.
TinyJob remembering_job() {
  TinyJob job = tiny_job();
  job.trainer.model.moe.every = 1;
  job.trainer.model.moe.bias_rate = 0.02;
  job.trainer.model.moe.balance_scope = BalanceScope::kGlobal;
  job.trainer.model.moe.balance_loss = 0.1;
  return job;
}

std::vector<RouterState> states_of(TinyRank& rank) {
  std::vector<RouterState> states;
  rank.trainer().runtime().model().visit_routers([&](RouterState& state) { states.push_back(state); });
  return states;
}

bool equal(const std::vector<RouterState>& a, const std::vector<RouterState>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const RouterState& x, const RouterState& y) { return x.bias == y.bias && x.counts == y.counts; });
}

TEST(RouterStates, EveryNumberOfRanksHasTheSameBits) {
  const TinyJob job = remembering_job();
  std::vector<RouterState> alone;
  std::string digest;
  std::mutex mutex;
  for (const int ranks : {1, 2, 3, 4, 8}) {
    run_tiny(job, ranks, [&](TinyRank& rank, Communicator& communicator) {
      rank.trainer().initialise(1);
      rank.train(5);
      const std::string own = rank.digest();
      const std::lock_guard<std::mutex> lock(mutex);
      if (ranks == 1) {
        alone = states_of(rank);
        digest = own;
      }
      EXPECT_EQ(own, digest) << ranks << " ranks";
      EXPECT_TRUE(equal(states_of(rank), alone)) << "rank " << communicator.rank() << " of " << ranks;
    });
  }
  ASSERT_EQ(alone.size(), 2u);
  for (const RouterState& state : alone) EXPECT_NE(state.bias, std::vector<float>(6, 0)) << state.name << " learnt no bias";
}

TEST(RouterStates, CountsAreExactlyTheTokensOfTheStep) {
  run_tiny(remembering_job(), 3, [](TinyRank& rank, Communicator&) {
    rank.trainer().initialise(1);
    for (int step = 0; step < 3; ++step) {
      const StepReport report = rank.trainer().step(rank.batches());
      const std::vector<RouterState> states = states_of(rank);
      for (size_t i = 0; i < states.size(); ++i) {
        EXPECT_EQ(std::accumulate(states[i].counts.begin(), states[i].counts.end(), int64_t{0}), report.counts.tokens) << states[i].name;
        EXPECT_EQ(states[i].counts, report.layers[i].requested) << states[i].name;
      }
    }
  });
}

TEST(RouterStates, EvaluationLeavesThemAlone) {
  run_tiny(remembering_job(), 2, [](TinyRank& rank, Communicator&) {
    rank.trainer().initialise(1);
    rank.train(2);
    const std::vector<RouterState> before = states_of(rank);
    rank.evaluate();
    EXPECT_TRUE(equal(states_of(rank), before));
  });
}

TEST(RouterStates, ASkippedStepLeavesThemAlone) {
  run_tiny(remembering_job(), 2, [](TinyRank& rank, Communicator& communicator) {
    rank.trainer().initialise(1);
    rank.train(2);
    const std::vector<RouterState> before = states_of(rank);
    if (communicator.rank() == 1) {
      const Tensor master = rank.trainer().runtime().store().owned().back().master;
      std::fill_n(master.get<float>(), master.elements(), std::numeric_limits<float>::infinity());
    }
    rank.trainer().resume(rank.trainer().progress());
    ASSERT_FALSE(rank.trainer().step(rank.batches()).applied);
    EXPECT_TRUE(equal(states_of(rank), before));
  });
}

TEST(RouterStates, AreResumedOnOtherNumbersOfRanks) {
  const TinyJob job = remembering_job();
  constexpr int64_t kSteps = 6;
  for (const int from : {1, 4}) {
    const TemporaryFolder folder;
    const std::vector<std::string> digests = train_saving_every_step(job, from, kSteps, folder.path());
    for (const int to : {1, 2, 3}) {
      EXPECT_EQ(resume_and_train(job, to, folder.path(), 3, kSteps), digests[kSteps]) << "saved on " << from << " ranks, resumed on " << to;
    }
  }
}

TEST(RouterStates, AreNamedTensorsOfTheState) {
  run_tiny(remembering_job(), 1, [](TinyRank& rank, Communicator&) {
    const State state = rank.trainer().state();
    const auto find = [&](const std::string& name) {
      const auto found = std::find_if(state.begin(), state.end(), [&](const StateTensor& tensor) { return tensor.name == name; });
      return found == state.end() ? StateTensor() : *found;
    };
    EXPECT_EQ(find("decoder.block.1.moe.router.bias").shape, (Shape{6}));
    EXPECT_EQ(find("decoder.block.1.moe.router.bias").dtype, Dtype::kF32);
    EXPECT_EQ(find("decoder.block.0.moe.router.counts").shape, (Shape{6, 2}));
    EXPECT_EQ(find("decoder.block.0.moe.router.counts").dtype, Dtype::kI32);
  });
  run_tiny(tiny_job(), 1, [](TinyRank& rank, Communicator&) {
    for (const StateTensor& tensor : rank.trainer().state()) EXPECT_EQ(tensor.name.find("router.bias"), std::string::npos) << tensor.name;
  });
}

// The largest share of the tokens that one expert of a layer got, summed over the layers of the last step.
double largest_load(const TinyJob& job) {
  double largest = 0;
  run_tiny(job, 1, [&](TinyRank& rank, Communicator&) {
    rank.trainer().initialise(1);
    rank.train(39);
    for (const LayerReport& layer : rank.trainer().step(rank.batches()).layers) {
      const std::vector<double> load = layer.load();
      largest += *std::max_element(load.begin(), load.end());
    }
  });
  return largest;
}

TEST(RouterStates, TheBiasBalancesWithoutALoss) {
  TinyJob job = tiny_job();
  job.trainer.model.moe.every = 1;
  job.trainer.model.moe.balance_loss = 0;
  const double without = largest_load(job);
  job.trainer.model.moe.bias_rate = 0.01;
  EXPECT_LT(largest_load(job), 0.8 * without);
}

}  // namespace
}  // namespace switchyard
