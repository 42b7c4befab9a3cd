#include "src/data/batches.h"

#include <map>
#include <set>

#include "src/data/window_order.h"
#include "tests/data/batch_rows.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

constexpr int32_t kVocabulary = 1000, kEnd = kVocabulary - 1;

struct Fixture {
  explicit Fixture(int64_t tokens) : file(write_counting_tokens(folder, tokens, kVocabulary)) {}
  TemporaryFolder folder;
  TokenFile file;
};

TEST(Batches, AWindowPredictsEachTokenFromThoseBeforeIt) {
  Fixture fixture(20);
  const BatchOptions options = options_for(1, 1, 5, 4);
  Batches batches(fixture.file, options);
  EXPECT_EQ(batches.windows(), 5);
  const Rows rows = rows_of(batches.at(0, 0, 0));
  const std::vector<int32_t> all = all_tokens(fixture.file);
  for (int64_t b = 0; b < 5; ++b) {
    const int64_t first = window_order(b, 5, options.seed, 0) * 4;
    for (int64_t s = 0; s < 4; ++s) {
      const size_t row = static_cast<size_t>(b * 4 + s), place = static_cast<size_t>(first + s);
      EXPECT_EQ(rows.targets[row], all[place]);
      EXPECT_EQ(rows.tokens[row], place == 0 ? kEnd : all[place - 1]);
    }
  }
}

TEST(Batches, AnEpochHasEveryTokenAsATargetOnce) {
  for (const int64_t tokens : {1, 7, 8, 9, 100, 997}) {
    Fixture fixture(tokens);
    Batches batches(fixture.file, options_for(1, 1, 1, 8));
    std::multiset<int32_t> seen;
    for (int64_t step = 0; step < batches.windows(); ++step) {
      const Rows rows = rows_of(batches.at(step, 0, 0));
      for (size_t row = 0; row < rows.targets.size(); ++row) {
        EXPECT_EQ(rows.targets[row] >= 0, rows.mask[row] == 1);
        if (rows.targets[row] >= 0) seen.insert(rows.targets[row]);
      }
    }
    const std::vector<int32_t> all = all_tokens(fixture.file);
    EXPECT_EQ(seen, std::multiset<int32_t>(all.begin(), all.end())) << tokens << " tokens";
  }
}

TEST(Batches, OnlyTheLastWindowIsPadded) {
  Fixture fixture(10);
  Batches batches(fixture.file, options_for(1, 1, 3, 4));
  const MicroBatch batch = batches.at(0, 0, 0);
  ASSERT_TRUE(batch.mask.exists());
  const Rows rows = rows_of(batch);
  int padding = 0;
  for (size_t row = 0; row < 12; ++row) {
    if (rows.mask[row] == 1) continue;
    ++padding;
    EXPECT_EQ(rows.targets[row], -1);
    EXPECT_EQ(rows.tokens[row], kEnd);
  }
  EXPECT_EQ(padding, 2);
  Fixture full(12);
  EXPECT_FALSE(Batches(full.file, options_for(1, 1, 3, 4)).at(0, 0, 0).mask.exists());
}

// Any step can be asked for at once, in any order, by any number of ranks: the answer is a function of its arguments.
TEST(Batches, ResumingAtAnyStepGivesTheSameBatches) {
  Fixture fixture(500);
  const BatchOptions options = options_for(3, 2, 2, 8);
  Batches straight(fixture.file, options);
  std::map<std::tuple<int64_t, int, int>, Rows> expected;
  for (int64_t step = 0; step < 20; ++step) {
    for (int a = 0; a < 2; ++a) {
      for (int w = 0; w < 3; ++w) expected[{step, a, w}] = rows_of(straight.at(step, a, w));
    }
  }
  for (int64_t begin = 19; begin >= 0; --begin) {
    Batches resumed(fixture.file, options);
    for (int w = 2; w >= 0; --w) {
      for (int a = 1; a >= 0; --a) EXPECT_EQ(rows_of(resumed.at(begin, a, w)), (expected[{begin, a, w}])) << "step " << begin;
    }
  }
}

TEST(Batches, TheStepTakesTheSameWindowsHoweverItIsCutInLanesAndAccumulations) {
  Fixture fixture(1000);
  const auto windows_of_step = [&](int lanes, int accumulate, int64_t sequences) {
    Batches batches(fixture.file, options_for(lanes, accumulate, sequences, 8));
    std::vector<int32_t> tokens;
    for (int a = 0; a < accumulate; ++a) {
      for (int w = 0; w < lanes; ++w) {
        const Rows rows = rows_of(batches.at(3, a, w));
        tokens.insert(tokens.end(), rows.tokens.begin(), rows.tokens.end());
      }
    }
    return tokens;
  };
  const auto expected = windows_of_step(1, 1, 12);
  EXPECT_EQ(windows_of_step(4, 3, 1), expected);
  EXPECT_EQ(windows_of_step(2, 2, 3), expected);
  EXPECT_EQ(windows_of_step(12, 1, 1), expected);
}

TEST(Batches, EpochsFollowOneAnotherInsideAStepAndDiffer) {
  Fixture fixture(80);  // 10 windows
  Batches batches(fixture.file, options_for(1, 1, 25, 8));
  const Rows rows = rows_of(batches.at(0, 0, 0));
  std::vector<std::vector<int32_t>> first_targets(3);
  for (size_t b = 0; b < 25; ++b) first_targets[b / 10].push_back(rows.targets[b * 8]);
  EXPECT_NE(first_targets[0], first_targets[1]);
  EXPECT_EQ(std::set<int32_t>(first_targets[0].begin(), first_targets[0].end()), std::set<int32_t>(first_targets[1].begin(), first_targets[1].end()));
  EXPECT_EQ(first_targets[0].size(), std::set<int32_t>(first_targets[0].begin(), first_targets[0].end()).size());
}

TEST(Batches, CountsAreThoseOfTheBatches) {
  for (const int64_t group : {0, 1, 3, 8, 16, 20, 1000}) {
    Fixture fixture(123);
    BatchOptions options = options_for(3, 2, 3, 8);
    options.group_tokens = group;
    Batches batches(fixture.file, options);
    int64_t padded_steps = 0;
    for (int64_t step = 0; step < 12; ++step) {
      Counts expected;
      for (int a = 0; a < 2; ++a) {
        for (int w = 0; w < 3; ++w) {
          const Rows rows = rows_of(batches.at(step, a, w));
          std::set<int64_t> groups;
          for (size_t row = 0; row < rows.targets.size(); ++row) {
            expected.targets += rows.targets[row] >= 0;
            expected.tokens += rows.mask[row];
            if (rows.mask[row] == 1) groups.insert(static_cast<int64_t>(row) / (group == 0 ? 24 : group));
          }
          expected.groups += static_cast<int64_t>(groups.size());
        }
      }
      const Counts counts = batches.counts(step);
      EXPECT_EQ(counts.targets, expected.targets);
      EXPECT_EQ(counts.tokens, expected.tokens);
      EXPECT_EQ(counts.groups, expected.groups) << "groups of " << group << ", step " << step;
      padded_steps += counts.tokens < 3 * 2 * 3 * 8;
    }
    EXPECT_GT(padded_steps, 0) << "no step of this test has padding";
  }
}

TEST(Batches, LanesBeyondTheLastAreEmpty) {
  Fixture fixture(100);
  Batches batches(fixture.file, options_for(2, 1, 2, 8));
  const MicroBatch batch = batches.at(5, 0, 2);
  EXPECT_EQ(batch.rows(), 0);
  EXPECT_EQ(batch.tokens.elements(), 0);
  EXPECT_EQ(batch.targets.elements(), 0);
  EXPECT_EQ(batch.lane, 2);
  EXPECT_EQ(batch.sequence_length, 8);
}

TEST(Batches, NumbersTokensOfTheStepByAccumulationAndLane) {
  Fixture fixture(100);
  Batches batches(fixture.file, options_for(3, 2, 2, 8));
  EXPECT_EQ(batches.at(4, 0, 0).first_token, 0u);
  EXPECT_EQ(batches.at(4, 0, 2).first_token, 32u);
  EXPECT_EQ(batches.at(4, 1, 1).first_token, 64u);
  EXPECT_EQ(batches.at(4, 1, 1).accumulation, 1);
}

TEST(Batches, ReusesItsMemory) {
  Fixture fixture(1000);
  Batches batches(fixture.file, options_for(2, 1, 2, 8));
  const void* tokens = batches.at(0, 0, 0).tokens.data();
  for (int64_t step = 0; step < 10; ++step) EXPECT_EQ(batches.at(step, 0, 1).tokens.data(), tokens);
}

TEST(Batches, RefusesImpossibleOptions) {
  Fixture fixture(100);
  expect_error(ExitCode::kUsage, "train.lanes is 0", [&] { Batches batches(fixture.file, options_for(0, 1, 1, 8)); });
  expect_error(ExitCode::kUsage, "train.accumulate is -1", [&] { Batches batches(fixture.file, options_for(1, -1, 1, 8)); });
  expect_error(ExitCode::kUsage, "train.sequences is 0", [&] { Batches batches(fixture.file, options_for(1, 1, 0, 8)); });
  expect_error(ExitCode::kUsage, "model.sequence_length is 0", [&] { Batches batches(fixture.file, options_for(1, 1, 1, 0)); });
  expect_error(ExitCode::kUsage, "lower train.sequences", [&] { Batches batches(fixture.file, options_for(1, 1, 1 << 20, 1 << 20)); });
  expect_error(ExitCode::kUsage, "does not fit in 64 bits", [&] { Batches batches(fixture.file, options_for(1, 1, INT64_MAX, 2)); });
  BatchOptions options = options_for(1, 1, 1, 8);
  options.group_tokens = -1;
  expect_error(ExitCode::kUsage, "model.moe.group_tokens is -1", [&] { Batches batches(fixture.file, options); });
  const TokenFile empty(write_tokens(fixture.folder, "empty.tokens", {}, 10));
  expect_error(ExitCode::kData, "holds no token", [&] { Batches batches(empty, options_for(1, 1, 1, 8)); });
}

TEST(EvaluationBatches, CountEveryTokenOnceInOrder) {
  for (const int64_t tokens : {1, 8, 9, 64, 65, 500, 997}) {
    Fixture fixture(tokens);
    for (const auto& [lanes, sequences] : {std::pair{1, 1}, std::pair{2, 3}, std::pair{8, 4}}) {
      EvaluationBatches batches(fixture.file, options_for(lanes, 1, sequences, 8));
      std::vector<int32_t> seen;
      int64_t counted = 0;
      for (int64_t round = 0; round < batches.rounds(); ++round) {
        int64_t in_round = 0;
        for (int lane = 0; lane < lanes; ++lane) {
          const Rows rows = rows_of(batches.at(round, lane));
          for (size_t row = 0; row < rows.targets.size(); ++row) {
            if (rows.targets[row] < 0) continue;
            EXPECT_EQ(rows.tokens[row], seen.empty() ? kEnd : seen.back());
            seen.push_back(rows.targets[row]);
            ++in_round;
          }
        }
        const Counts counts = batches.counts(round);
        EXPECT_EQ(counts.targets, in_round);
        EXPECT_EQ(counts.tokens, in_round);
        counted += counts.targets;
      }
      EXPECT_EQ(seen, all_tokens(fixture.file)) << tokens << " tokens in " << lanes << " lanes of " << sequences;
      EXPECT_EQ(counted, fixture.file.tokens());
      EXPECT_EQ(batches.targets(), fixture.file.tokens());
    }
  }
}

TEST(EvaluationBatches, AMicroBatchWithNothingLeftIsEmpty) {
  Fixture fixture(8 * 5);
  EvaluationBatches batches(fixture.file, options_for(4, 1, 2, 8));
  EXPECT_EQ(batches.rounds(), 1);
  EXPECT_EQ(batches.at(0, 2).sequences, 2);
  EXPECT_TRUE(batches.at(0, 2).mask.exists());
  EXPECT_EQ(batches.at(0, 3).sequences, 0);
  EXPECT_EQ(batches.at(0, 4).sequences, 0);
  EXPECT_EQ(batches.counts(0).groups, 3);
}

TEST(EvaluationBatches, CanStopEarly) {
  Fixture fixture(100);
  EvaluationBatches batches(fixture.file, options_for(2, 1, 2, 8), 5);
  EXPECT_EQ(batches.rounds(), 2);
  EXPECT_EQ(batches.targets(), 40);
  EXPECT_EQ(batches.counts(0).targets + batches.counts(1).targets, 40);
  EXPECT_EQ(EvaluationBatches(fixture.file, options_for(2, 1, 2, 8), 1000).targets(), 100);
}

}  // namespace
}  // namespace switchyard
