#include "src/data/labelled_batches.h"

#include <map>
#include <set>

#include "src/data/window_order.h"
#include "tests/data/batch_rows.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

constexpr int64_t kVocabulary = 1000;
constexpr int32_t kPadding = 0;

// Example i has label i % 3 and the tokens 10 i + 1, 10 i + 2, ..., as many as `lengths` says.
struct Fixture {
  explicit Fixture(const std::vector<int64_t>& lengths) {
    ExampleFileInfo info;
    info.split = "train";
    info.vocabulary = kVocabulary;
    info.classes = 3;
    ExampleFileWriter writer(folder.path("x.examples"), info);
    for (size_t i = 0; i < lengths.size(); ++i) {
      std::vector<int32_t> tokens;
      for (int64_t t = 0; t < lengths[i]; ++t) tokens.push_back(static_cast<int32_t>(static_cast<int64_t>(10 * i) + 1 + t));
      writer.add(static_cast<int32_t>(i % 3), tokens, 1);
    }
    writer.finish();
    file = std::make_unique<ExampleFile>(folder.path("x.examples"));
  }
  TemporaryFolder folder;
  std::unique_ptr<ExampleFile> file;
};

// Lengths 0 .. 9 in turn.
std::vector<int64_t> mixed_lengths(int64_t examples) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < examples; ++i) lengths.push_back((i * 7) % 10);
  return lengths;
}

TEST(LabelledBatches, PadAndCutOnTheSidesThatAreAskedFor) {
  Fixture fixture({6, 4, 2, 0});
  BatchOptions options = options_for(1, 1, 4, 4);
  struct Case {
    TextSide pad, cut;
    std::vector<int32_t> tokens, mask;
  };
  const TextSide back = TextSide::kBack, front = TextSide::kFront;
  for (const Case& wanted : {Case{back, back, {1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 0, 0, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0}},
                             Case{front, front, {3, 4, 5, 6, 11, 12, 13, 14, 0, 0, 21, 22, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0}},
                             Case{back, front, {3, 4, 5, 6, 11, 12, 13, 14, 21, 22, 0, 0, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0}},
                             Case{front, back, {1, 2, 3, 4, 11, 12, 13, 14, 0, 0, 21, 22, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0}}}) {
    options.pad = wanted.pad;
    options.cut = wanted.cut;
    LabelledEvaluationBatches batches(*fixture.file, kPadding, options);
    const Rows rows = rows_of(batches.at(0, 0));
    EXPECT_EQ(rows.tokens, wanted.tokens);
    EXPECT_EQ(rows.mask, wanted.mask);
    EXPECT_EQ(rows.targets, (std::vector<int32_t>{0, 1, 2, 0})) << "a text without tokens still counts";
  }
}

TEST(LabelledBatches, HaveNoMaskWhereNothingIsPadded) {
  Fixture fixture({4, 5, 3, 4});
  LabelledEvaluationBatches batches(*fixture.file, kPadding, options_for(1, 1, 2, 4));
  EXPECT_FALSE(batches.at(0, 0).mask.exists());
  EXPECT_TRUE(batches.at(1, 0).mask.exists());
  EXPECT_FALSE(batches.at(0, 0).mask.exists()) << "what an earlier batch had is forgotten";
}

TEST(LabelledBatches, ExampleOfASequenceIsTheOneOfItsNumber) {
  Fixture fixture(mixed_lengths(10));
  const BatchOptions options = options_for(2, 2, 3, 8);
  LabelledBatches batches(*fixture.file, kPadding, options);
  for (int64_t step = 0; step < 4; ++step) {
    for (int a = 0; a < 2; ++a) {
      for (int w = 0; w < 2; ++w) {
        const Rows rows = rows_of(batches.at(step, a, w));
        for (int64_t b = 0; b < 3; ++b) {
          const int64_t number = ((step * 2 + a) * 2 + w) * 3 + b;
          const int64_t example = window_order(number % 10, 10, options.seed, static_cast<uint64_t>(number / 10));
          EXPECT_EQ(rows.targets[static_cast<size_t>(b)], example % 3) << "number " << number;
          const int64_t length = std::min<int64_t>(fixture.file->length(example), 8);
          for (int64_t s = 0; s < 8; ++s) {
            EXPECT_EQ(rows.tokens[static_cast<size_t>(b * 8 + s)], s < length ? 10 * example + 1 + s : kPadding) << "number " << number << ", token " << s;
          }
        }
      }
    }
  }
}

TEST(LabelledBatches, AnEpochHasEveryExampleOnceAndEpochsDiffer) {
  Fixture fixture(std::vector<int64_t>(23, 1));
  LabelledBatches batches(*fixture.file, kPadding, options_for(1, 1, 1, 2));
  EXPECT_EQ(batches.examples(), 23);
  std::vector<std::vector<int32_t>> epochs(3);
  for (int64_t step = 0; step < 3 * 23; ++step) epochs[static_cast<size_t>(step / 23)].push_back(rows_of(batches.at(step, 0, 0)).tokens[0]);
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  for (const auto& epoch : epochs) {
    const std::set<int32_t> seen(epoch.begin(), epoch.end());
    EXPECT_EQ(seen.size(), 23u);
    EXPECT_EQ(*seen.begin(), 1);
    EXPECT_EQ(*seen.rbegin(), 221);
  }
}

TEST(LabelledBatches, TheStepTakesTheSameExamplesHoweverItIsCutInLanesAndAccumulations) {
  Fixture fixture(mixed_lengths(50));
  const auto tokens_of_step = [&](int lanes, int accumulate, int64_t sequences) {
    LabelledBatches batches(*fixture.file, kPadding, options_for(lanes, accumulate, sequences, 8));
    std::vector<int32_t> tokens;
    for (int a = 0; a < accumulate; ++a) {
      for (int w = 0; w < lanes; ++w) {
        const Rows rows = rows_of(batches.at(3, a, w));
        tokens.insert(tokens.end(), rows.tokens.begin(), rows.tokens.end());
      }
    }
    return tokens;
  };
  const auto expected = tokens_of_step(1, 1, 12);
  EXPECT_EQ(tokens_of_step(4, 3, 1), expected);
  EXPECT_EQ(tokens_of_step(2, 2, 3), expected);
}

TEST(LabelledBatches, ResumingAtAnyStepGivesTheSameBatches) {
  Fixture fixture(mixed_lengths(17));
  const BatchOptions options = options_for(2, 1, 3, 4);
  LabelledBatches straight(*fixture.file, kPadding, options);
  std::map<std::pair<int64_t, int>, Rows> expected;
  for (int64_t step = 0; step < 12; ++step) {
    for (int w = 0; w < 2; ++w) expected[{step, w}] = rows_of(straight.at(step, 0, w));
  }
  for (int64_t step = 11; step >= 0; --step) {
    LabelledBatches resumed(*fixture.file, kPadding, options);
    for (int w = 1; w >= 0; --w) EXPECT_EQ(rows_of(resumed.at(step, 0, w)), (expected[{step, w}])) << "step " << step;
  }
}

TEST(LabelledBatches, FewerExamplesThanABatchGoOnWithTheNextEpochs) {
  Fixture fixture({1, 1, 1});
  LabelledBatches batches(*fixture.file, kPadding, options_for(1, 1, 8, 2));
  const Rows rows = rows_of(batches.at(0, 0, 0));
  std::map<int32_t, int> seen;
  for (size_t b = 0; b < 8; ++b) ++seen[rows.tokens[2 * b]];
  EXPECT_EQ(seen.size(), 3u);
  for (const auto& [token, times] : seen) EXPECT_GE(times, 2) << "token " << token;
  EXPECT_EQ(std::count(rows.targets.begin(), rows.targets.end(), -1), 0);
  EXPECT_EQ(batches.counts(0).targets, 8);
}

TEST(LabelledBatches, StepsOfAnEpoch) {
  Fixture fixture(std::vector<int64_t>(100, 1));
  LabelledBatches batches(*fixture.file, kPadding, options_for(2, 3, 5, 2));
  EXPECT_EQ(batches.examples_per_step(), 30);
  EXPECT_EQ(batches.steps(0), 0);
  EXPECT_EQ(batches.steps(1), 4);
  EXPECT_EQ(batches.steps(3), 10);
}

Counts counted(const Rows& rows, int64_t group) {
  Counts counts;
  std::set<int64_t> groups;
  for (const int32_t target : rows.targets) counts.targets += target >= 0;
  for (size_t row = 0; row < rows.mask.size(); ++row) {
    counts.tokens += rows.mask[row];
    if (rows.mask[row] == 1) groups.insert(static_cast<int64_t>(row) / group);
  }
  counts.groups = static_cast<int64_t>(groups.size());
  return counts;
}

TEST(LabelledBatches, CountsAreThoseOfTheBatches) {
  Fixture fixture(mixed_lengths(31));
  for (const TextSide pad : {TextSide::kBack, TextSide::kFront}) {
    for (const int64_t group : {0, 1, 2, 3, 4, 5, 8, 12, 1000}) {
      BatchOptions options = options_for(3, 2, 3, 4);
      options.group_tokens = group;
      options.pad = pad;
      LabelledBatches batches(*fixture.file, kPadding, options);
      for (int64_t step = 0; step < 12; ++step) {
        Counts expected;
        for (int a = 0; a < 2; ++a) {
          for (int w = 0; w < 3; ++w) {
            const Counts counts = counted(rows_of(batches.at(step, a, w)), group == 0 ? 12 : group);
            expected.targets += counts.targets;
            expected.tokens += counts.tokens;
            expected.groups += counts.groups;
          }
        }
        const Counts counts = batches.counts(step);
        EXPECT_EQ(counts.targets, expected.targets);
        EXPECT_EQ(counts.tokens, expected.tokens);
        EXPECT_EQ(counts.groups, expected.groups) << "groups of " << group << ", step " << step;
        EXPECT_LT(counts.tokens, 3 * 2 * 3 * 4) << "no padding in this test";
      }
    }
  }
}

TEST(LabelledBatches, PaddingCountsWhereTheModelSeesIt) {
  Fixture fixture({0, 1, 2});
  BatchOptions options = options_for(2, 1, 2, 4);
  options.see_padding = true;
  options.group_tokens = 3;
  const Counts counts = LabelledBatches(*fixture.file, kPadding, options).counts(0);
  EXPECT_EQ(counts.targets, 4);
  EXPECT_EQ(counts.tokens, 16);
  EXPECT_EQ(counts.groups, 6);
}

// What is left of `whole` when its sequences of `from` rows are cut to `to` rows.
Rows cut_rows(const Rows& whole, int64_t from, int64_t to) {
  Rows rows{{}, whole.targets, {}};
  for (size_t row = 0; row < whole.tokens.size(); ++row) {
    if (static_cast<int64_t>(row) % from >= to) continue;
    rows.tokens.push_back(whole.tokens[row]);
    rows.mask.push_back(whole.mask[row]);
  }
  return rows;
}

TEST(LabelledBatches, WithoutWholeLengthHaveTheRowsThatTheLongestTextNeeds) {
  for (const auto& [longest, length] : std::vector<std::pair<int64_t, int64_t>>{{0, 16}, {1, 16}, {16, 16}, {17, 32}, {40, 40}, {99, 40}}) {
    Fixture fixture({3, longest, 0, 5, 1});
    BatchOptions options = options_for(2, 1, 3, 40);
    LabelledBatches whole(*fixture.file, kPadding, options);
    options.whole_length = false;
    LabelledBatches cut(*fixture.file, kPadding, options);
    for (int64_t step = 0; step < 6; ++step) {
      EXPECT_EQ(cut.counts(step).tokens, whole.counts(step).tokens) << "longest " << longest;
      EXPECT_EQ(cut.counts(step).targets, whole.counts(step).targets);
      EXPECT_EQ(cut.counts(step).groups, whole.counts(step).groups) << "longest " << longest << ": a group is a micro-batch";
      for (int lane = 0; lane < 2; ++lane) {
        const MicroBatch batch = cut.at(step, 0, lane);
        const Rows rows = rows_of(batch);
        const MicroBatch all = whole.at(step, 0, lane);
        EXPECT_LE(batch.sequence_length, length);
        EXPECT_TRUE(batch.sequence_length == 40 || batch.sequence_length % kLengthMultiple == 0) << batch.sequence_length;
        EXPECT_EQ(rows, cut_rows(rows_of(all), 40, batch.sequence_length)) << "longest " << longest << ", step " << step << ", lane " << lane;
        int64_t kept = 0;
        for (const int32_t m : rows_of(all).mask) kept += m;
        for (const int32_t m : rows.mask) kept -= m;
        EXPECT_EQ(kept, 0) << "a token was cut off";
        EXPECT_EQ(batch.first_token, all.first_token);
      }
    }
  }
}

TEST(LabelledBatches, WithoutWholeLengthPaddingMustStandBehindAndBeUnseen) {
  Fixture fixture({3, 2});
  BatchOptions options = options_for(1, 1, 2, 40);
  options.whole_length = false;
  options.pad = TextSide::kFront;
  EXPECT_THROW(LabelledBatches(*fixture.file, kPadding, options), InternalError);
  options.pad = TextSide::kBack;
  options.see_padding = true;
  EXPECT_THROW(LabelledBatches(*fixture.file, kPadding, options), InternalError);
}

TEST(LabelledBatches, LanesBeyondTheLastAreEmptyAndTokensAreNumbered) {
  Fixture fixture(mixed_lengths(20));
  LabelledBatches batches(*fixture.file, kPadding, options_for(3, 2, 2, 8));
  const MicroBatch empty = batches.at(5, 1, 3);
  EXPECT_EQ(empty.rows(), 0);
  EXPECT_EQ(empty.tokens.elements(), 0);
  EXPECT_EQ(empty.targets.elements(), 0);
  EXPECT_EQ(empty.sequence_length, 8);
  EXPECT_EQ(empty.lane, 3);
  EXPECT_EQ(batches.at(4, 0, 2).first_token, 32u);
  EXPECT_EQ(batches.at(4, 1, 1).first_token, 64u);
  EXPECT_EQ(batches.at(4, 1, 1).accumulation, 1);
  EXPECT_EQ(batches.at(4, 1, 1).targets.elements(), 2);
}

TEST(LabelledBatches, ImpossibleRequestsAreRefused) {
  Fixture fixture({1});
  expect_error(ExitCode::kUsage, "train.lanes is 0", [&] { LabelledBatches batches(*fixture.file, kPadding, options_for(0, 1, 1, 8)); });
  expect_error(ExitCode::kUsage, "train.sequences is -3", [&] { LabelledBatches batches(*fixture.file, kPadding, options_for(1, 1, -3, 8)); });
  expect_error(ExitCode::kUsage, "model.sequence_length is 0", [&] { LabelledEvaluationBatches batches(*fixture.file, kPadding, options_for(1, 1, 1, 0)); });
  Fixture empty({});
  expect_error(ExitCode::kData, "holds no example; use more labelled texts", [&] { LabelledBatches batches(*empty.file, kPadding, options_for(1, 1, 1, 8)); });
  expect_error(ExitCode::kData, "holds no example", [&] { LabelledEvaluationBatches batches(*empty.file, kPadding, options_for(1, 1, 1, 8)); });
}

TEST(LabelledEvaluationBatches, HaveEveryExampleOnceInOrder) {
  for (const int64_t examples : {1, 2, 6, 7, 30, 31}) {
    Fixture fixture(mixed_lengths(examples));
    for (const auto& [lanes, sequences] : {std::pair{1, 1}, std::pair{2, 3}, std::pair{8, 4}}) {
      LabelledEvaluationBatches batches(*fixture.file, kPadding, options_for(lanes, 1, sequences, 4));
      std::vector<int32_t> targets;
      int64_t counted_targets = 0;
      for (int64_t round = 0; round < batches.rounds(); ++round) {
        Counts expected;
        for (int lane = 0; lane < lanes; ++lane) {
          const Rows rows = rows_of(batches.at(round, lane));
          for (const int32_t target : rows.targets) {
            if (target >= 0) targets.push_back(target);
          }
          const Counts counts = counted(rows, sequences * 4);
          expected.tokens += counts.tokens;
          expected.groups += counts.groups;
        }
        const Counts counts = batches.counts(round);
        counted_targets += counts.targets;
        EXPECT_EQ(counts.tokens, expected.tokens);
        EXPECT_EQ(counts.groups, expected.groups);
      }
      std::vector<int32_t> all;
      for (int64_t i = 0; i < examples; ++i) all.push_back(fixture.file->label(i));
      EXPECT_EQ(targets, all) << examples << " examples in " << lanes << " lanes of " << sequences;
      EXPECT_EQ(counted_targets, examples);
      EXPECT_EQ(batches.targets(), examples);
    }
  }
}

TEST(LabelledEvaluationBatches, SequencesAfterTheLastExampleArePaddingWithoutTarget) {
  Fixture fixture({4, 4, 4});
  LabelledEvaluationBatches batches(*fixture.file, kPadding, options_for(3, 1, 2, 4));
  EXPECT_EQ(batches.rounds(), 1);
  const Rows rows = rows_of(batches.at(0, 1));
  EXPECT_EQ(rows.targets, (std::vector<int32_t>{2, -1}));
  EXPECT_EQ(rows.tokens, (std::vector<int32_t>{21, 22, 23, 24, 0, 0, 0, 0}));
  EXPECT_EQ(rows.mask, (std::vector<int32_t>{1, 1, 1, 1, 0, 0, 0, 0}));
  EXPECT_EQ(batches.at(0, 2).sequences, 0) << "nothing is left for this lane";
  EXPECT_EQ(batches.at(0, 3).sequences, 0) << "no such lane";
}

// A folder for each class makes a file sorted by class.
TEST(LabelledEvaluationBatches, APartOfThemIsDrawnFromAll) {
  Fixture fixture(mixed_lengths(100));
  const auto drawn = [&] {
    LabelledEvaluationBatches batches(*fixture.file, kPadding, options_for(1, 1, 10, 8), 10);
    return rows_of(batches.at(0, 0)).tokens;
  };
  LabelledEvaluationBatches all(*fixture.file, kPadding, options_for(1, 1, 10, 8));
  EXPECT_NE(drawn(), rows_of(all.at(0, 0)).tokens) << "the first ones";
  EXPECT_EQ(drawn(), drawn());
}

TEST(LabelledEvaluationBatches, CanStopEarly) {
  Fixture fixture(mixed_lengths(100));
  LabelledEvaluationBatches batches(*fixture.file, kPadding, options_for(2, 1, 2, 8), 5);
  EXPECT_EQ(batches.rounds(), 2);
  EXPECT_EQ(batches.targets(), 5);
  EXPECT_EQ(batches.counts(0).targets + batches.counts(1).targets, 5);
  EXPECT_EQ(LabelledEvaluationBatches(*fixture.file, kPadding, options_for(2, 1, 2, 8), 1000).targets(), 100);
}

}  // namespace
}  // namespace switchyard
