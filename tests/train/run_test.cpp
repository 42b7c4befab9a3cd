// What happens between the steps of a run: evaluation after epochs, the best checkpoint, patience, and resuming all of it.
#include "src/train/run.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <mutex>

#include "tests/train/resume_helper.h"

namespace switchyard {
namespace {

struct Ran {
  ExitCode code = ExitCode::kFailure;
  int64_t steps = 0;
  std::vector<std::string> evaluations;  // sentences about the hold-out
  std::string digest;
};

struct Plan {
  TinyJob job = tiny_classifier_job();
  RunOptions options;
  int ranks = 1;
  int64_t stop_after = -1;  // evaluations before the run is told to stop
  bool resume = false;
};

Plan plan(const std::string& folder) {
  Plan plan;
  plan.job.trainer.train.accumulate = 1;
  plan.options.directory = folder + "/run";
  plan.options.steps = 40;
  plan.options.epoch_ends = {7, 13, 19, 25, 32};  // of 100 examples, 16 a step
  plan.options.log_every = 1000;
  plan.options.keep_best = true;
  return plan;
}

Ran run(const Plan& plan) {
  Ran result;
  std::mutex mutex;
  run_tiny(plan.job, plan.ranks, [&](TinyRank& rank, Communicator& communicator) {
    std::atomic<bool> stop = false;
    std::vector<std::string> evaluations;
    const auto say = [&](const std::string& sentence) {
      if (sentence.find("held-out loss") == std::string::npos || sentence.starts_with("no better")) return;
      evaluations.push_back(sentence);
      if (static_cast<int64_t>(evaluations.size()) == plan.stop_after) stop = true;
    };
    const auto directory = open_run(communicator, plan.options.directory, plan.resume);
    const auto heldout = rank.heldout();
    Run training(rank.trainer(), rank.batches(), heldout.get(), directory.get(), plan.options, stop, say);
    training.start(plan.resume, 1);
    const ExitCode code = training.train();
    const std::string digest = rank.digest();
    const std::lock_guard lock(mutex);
    if (communicator.rank() == 0) result = {code, rank.trainer().progress().step, evaluations, digest};
  });
  return result;
}

TEST(Run, EvaluatesAtTheEndsOfEpochsAndOfTheRun) {
  const TemporaryFolder folder;
  const Ran ran = run(plan(folder.path()));
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_EQ(ran.steps, 40);
  ASSERT_EQ(ran.evaluations.size(), 6u);
  EXPECT_TRUE(ran.evaluations[0].starts_with("step 7, epoch 1 of 5: ")) << ran.evaluations[0];
  EXPECT_TRUE(ran.evaluations[4].starts_with("step 32, epoch 5 of 5: ")) << ran.evaluations[4];
  EXPECT_TRUE(ran.evaluations[5].starts_with("step 40: ")) << ran.evaluations[5];
}

TEST(Run, TheBestCheckpointIsThatOfTheLowestLossOnEveryNumberOfRanks) {
  std::string first;
  for (const int ranks : {1, 3}) {
    const TemporaryFolder folder;
    Plan here = plan(folder.path());
    here.ranks = ranks;
    run(here);
    const TinyJob job = here.job;
    double best = 0, lowest = 0;
    std::string digest;
    run_tiny(job, 1, [&](TinyRank& rank, Communicator& communicator) {
      State state = rank.trainer().runtime().state({});
      const auto loaded = load_checkpoint(communicator, best_directory(here.options.directory), state, {.weights_only = true});
      ASSERT_TRUE(loaded.has_value());
      EXPECT_EQ(loaded->info.best.step, loaded->info.step);
      best = loaded->info.best.loss;
      rank.trainer().resume({});
      lowest = rank.evaluate().loss();
      digest = loaded->state_digest;
    });
    EXPECT_EQ(best, lowest) << "the weights are not those that were evaluated";
    if (first.empty()) first = digest;
    EXPECT_EQ(digest, first) << ranks << " ranks";
  }
}

TEST(Run, BegunAnewItForgetsTheBestOfAnEarlierAttempt) {
  const TemporaryFolder folder;
  Plan here = plan(folder.path());
  run(here);
  for (const int64_t step : list_checkpoints(here.options.directory)) {
    std::filesystem::remove_all(here.options.directory + "/" + checkpoint_name(step));
  }
  ASSERT_FALSE(list_checkpoints(best_directory(here.options.directory)).empty());
  here.resume = true;
  here.options.steps = 3;
  here.options.epoch_ends.clear();
  run(here);
  EXPECT_EQ(list_checkpoints(best_directory(here.options.directory)), std::vector<int64_t>{3});
}

// A rate so large that nothing is learnt any more.
Plan hopeless(const std::string& folder) {
  Plan result = plan(folder);
  result.job.trainer.schedule = {.kind = ScheduleKind::kConstant, .rate = 3};
  result.job.trainer.optimizer.clip_norm = 0;
  result.options.patience = 2;
  result.options.evaluate_every = 2;
  return result;
}

TEST(Run, PatienceEndsItOnEveryNumberOfRanksAlike) {
  Ran one;
  for (const int ranks : {1, 4}) {
    const TemporaryFolder folder;
    Plan here = hopeless(folder.path());
    here.ranks = ranks;
    const Ran ran = run(here);
    EXPECT_EQ(ran.code, ExitCode::kOk);
    EXPECT_LT(ran.steps, 40) << "two evaluations in a row without a better one should have ended it";
    if (ranks == 1) one = ran;
    EXPECT_EQ(ran.evaluations, one.evaluations);
    EXPECT_EQ(ran.digest, one.digest);
  }
}

TEST(Run, AStoppedRunGoesOnAsIfItHadNot) {
  const TemporaryFolder undisturbed;
  const Ran whole = run(hopeless(undisturbed.path()));
  ASSERT_GE(whole.evaluations.size(), 3u);
  for (int64_t stop_after = 1; stop_after < static_cast<int64_t>(whole.evaluations.size()); ++stop_after) {
    const TemporaryFolder folder;
    Plan here = hopeless(folder.path());
    here.stop_after = stop_after;
    const Ran first = run(here);
    EXPECT_EQ(first.code, ExitCode::kPreempted);
    here.stop_after = -1;
    here.resume = true;
    here.ranks = 2;
    const Ran second = run(here);
    EXPECT_EQ(second.code, ExitCode::kOk);
    EXPECT_EQ(second.steps, whole.steps) << "stopped after " << stop_after << " evaluations";
    EXPECT_EQ(second.digest, whole.digest);
    std::vector<std::string> all = first.evaluations;
    all.insert(all.end(), second.evaluations.begin(), second.evaluations.end());
    EXPECT_EQ(all, whole.evaluations);
    EXPECT_EQ(list_checkpoints(best_directory(here.options.directory)), list_checkpoints(best_directory(undisturbed.path() + "/run")));
    here.ranks = 1;
    EXPECT_EQ(run(here).steps, whole.steps) << "a run that ended for want of patience went on";
  }
}

}  // namespace
}  // namespace switchyard
