// Training a classifier: the same bits on every number of ranks, and at every resumption.
#include <gtest/gtest.h>

#include "src/data/labelled_batches.h"
#include "src/train/predict.h"
#include "tests/train/resume_helper.h"

namespace switchyard {
namespace {

TEST(ClassifierTraining, EveryNumberOfRanksComputesTheSameBits) {
  const TinyJob job = tiny_classifier_job();
  const Trail one = trail_of(job, 1, 4);
  for (const int ranks : {2, 3, 4, 8}) expect_same(trail_of(job, ranks, 4), one, std::to_string(ranks) + " ranks");
}

TEST(ClassifierTraining, OnTheCpuBackendToo) {
  for (const Precision& precision : {kPrecisionF32, kPrecisionBF16}) {
    TinyJob job = tiny_classifier_job();
    job.cpu_backend = true;
    job.trainer.precision = precision;
    const Trail one = trail_of(job, 1, 3);
    for (const int ranks : {2, 3, 4}) expect_same(trail_of(job, ranks, 3), one, std::to_string(ranks) + " ranks");
    job.threads = 2;
    expect_same(trail_of(job, 1, 3), one, "two threads");
  }
}

TEST(ClassifierTraining, LearnsTheWordsOfItsClasses) {
  TinyJob job = tiny_classifier_job();
  job.trainer.schedule = {.kind = ScheduleKind::kConstant, .rate = 1e-2};
  const Trail trail = trail_of(job, 1, 60);
  EXPECT_LT(trail.losses.back(), trail.losses.front() - 0.3);
  EXPECT_GT(trail.evaluation.accuracy(), 0.8);
}

TEST(ClassifierTraining, AResumedRunIsTheUndisturbedOne) {
  const TinyJob job = tiny_classifier_job();
  const TemporaryFolder folder;
  const std::vector<std::string> digests = train_saving_every_step(job, 2, 6, folder.path());
  for (int64_t k = 1; k < 6; ++k) {
    const int to = static_cast<int>(1 + k % 3);
    EXPECT_EQ(resume_and_train(job, to, folder.path(), k, k + 1), digests[static_cast<size_t>(k) + 1]) << "at step " << k << " on " << to << " ranks";
  }
}

TEST(ClassifierEvaluation, CountsWhatWasTakenForWhat) {
  const Trail trail = trail_of(tiny_classifier_job(), 2, 10);
  const EvaluationReport& report = trail.evaluation;
  ASSERT_EQ(report.classes.size(), 3u);
  ASSERT_EQ(report.confusion.size(), 9u);
  int64_t all = 0, hits = 0;
  for (size_t c = 0; c < 3; ++c) {
    int64_t row = 0, column = 0;
    for (size_t other = 0; other < 3; ++other) {
      row += report.confusion[c * 3 + other];
      column += report.confusion[other * 3 + c];
    }
    EXPECT_EQ(report.classes[c].examples, row);
    EXPECT_EQ(report.classes[c].taken, column);
    EXPECT_EQ(report.classes[c].hits, report.confusion[c * 4]);
    all += row;
    hits += report.confusion[c * 4];
  }
  EXPECT_EQ(all, 50);
  EXPECT_EQ(report.targets, 50);
  EXPECT_EQ(hits, report.correct);
}

TEST(ClassifierEvaluation, MacroF1IsTheMeanOverTheClassesThatOccur) {
  EvaluationReport report;
  report.classes = {{.examples = 8, .taken = 6, .hits = 5}, {.examples = 2, .taken = 4, .hits = 1}, {}};
  const double first = 2 * (5.0 / 6) * (5.0 / 8) / (5.0 / 6 + 5.0 / 8), second = 2 * (1.0 / 4) * (1.0 / 2) / (1.0 / 4 + 1.0 / 2);
  EXPECT_NEAR(report.classes[0].f1(), first, 1e-15);
  EXPECT_NEAR(report.macro_f1(), (first + second) / 2, 1e-15);
  EXPECT_EQ(EvaluationReport{}.macro_f1(), 0);
}

BatchOptions text_options(const TinyJob& job) {
  const TrainOptions& train = job.trainer.train;
  return {.lanes = train.lanes, .accumulate = train.accumulate, .sequences = 5, .sequence_length = train.sequence_length};
}

TinyJob predicting_job() {
  TinyJob job = tiny_classifier_job();
  job.vocabulary = 257;  // of bytes
  job.trainer.model.vocabulary = 257;
  job.trainer.model.moe.every = 1;
  job.trainer.model.moe.eval_capacity_factor = 0;
  return job;
}

// Texts alone and in company, the empty one and a long one among them, are answered alike; the probabilities sum to 1.
TEST(Predictor, ATextsAnswerDoesNotDependOnItsCompany) {
  const TinyJob job = predicting_job();
  const std::unique_ptr<Tokenizer> bytes = make_bytes_tokenizer();
  run_tiny(job, 1, [&](TinyRank& rank, Communicator&) {
    rank.trainer().initialise(1);
    Predictor predictor(rank.trainer().runtime(), *bytes, text_options(job));
    const std::vector<std::string> texts = {"a text", "", std::string(100000, 'x'), "another one", "ß"};
    const std::vector<Prediction> together = predictor.predict(texts, true);
    ASSERT_EQ(together.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::vector<Prediction> alone = predictor.predict(std::span(texts).subspan(i, 1), true);
      ASSERT_EQ(alone.size(), 1u);
      EXPECT_EQ(alone[0].probabilities, together[i].probabilities) << "text " << i;
      EXPECT_EQ(alone[0].tokens, together[i].tokens) << "text " << i;
      double sum = 0;
      for (const double probability : together[i].probabilities) sum += probability;
      EXPECT_NEAR(sum, 1, 1e-12);
    }
    EXPECT_EQ(predictor.predict(std::span(texts).first(3), false)[2].probabilities, together[2].probabilities);
    EXPECT_TRUE(predictor.predict({}, false).empty());
  });
}

TEST(Predictor, ExplainsEveryTokenThatWasSeen) {
  const TinyJob job = predicting_job();
  const std::unique_ptr<Tokenizer> bytes = make_bytes_tokenizer();
  run_tiny(job, 1, [&](TinyRank& rank, Communicator&) {
    rank.trainer().initialise(1);
    Predictor predictor(rank.trainer().runtime(), *bytes, text_options(job));
    const std::vector<std::string> texts = {"abc", "", std::string(100, 'x')};
    const std::vector<Prediction> predictions = predictor.predict(texts, true);
    EXPECT_EQ(predictions[0].tokens, bytes->encode("abc"));
    EXPECT_TRUE(predictions[1].tokens.empty());
    EXPECT_EQ(predictions[2].tokens.size(), 12u) << "cut to the sequence";
    for (const Prediction& prediction : predictions) {
      ASSERT_EQ(prediction.layers.size(), 2u);
      for (const auto& layer : prediction.layers) {
        ASSERT_EQ(layer.size(), prediction.tokens.size());
        for (const auto& experts : layer) {
          ASSERT_EQ(experts.size(), 1u) << "no token is dropped without a capacity";
          EXPECT_GE(experts[0].expert, 0);
          EXPECT_LT(experts[0].expert, 6);
          EXPECT_GE(experts[0].gate, 1.0 / 6);
          EXPECT_LE(experts[0].gate, 1);
        }
      }
    }
    EXPECT_TRUE(predictor.predict(texts, false)[0].tokens.empty());
  });
}

TEST(Predictor, RefusesWhatIsNotUtf8) {
  const TinyJob job = predicting_job();
  const std::unique_ptr<Tokenizer> bytes = make_bytes_tokenizer();
  run_tiny(job, 1, [&](TinyRank& rank, Communicator&) {
    rank.trainer().initialise(1);
    Predictor predictor(rank.trainer().runtime(), *bytes, text_options(job));
    const std::vector<std::string> texts = {"ab\xff"};
    EXPECT_THROW(predictor.predict(texts, false), Error);
  });
}

}  // namespace
}  // namespace switchyard
