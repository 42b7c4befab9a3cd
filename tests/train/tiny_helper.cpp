#include "tests/train/tiny_helper.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "src/checkpoint/digest.h"
#include "src/data/batches.h"
#include "src/data/labelled_batches.h"

namespace switchyard {
namespace {

BatchOptions batch_options(const TinyJob& job) {
  const TrainOptions& train = job.trainer.train;
  return {train.lanes, train.accumulate, train.sequences, train.sequence_length, job.trainer.model.moe.group_tokens, train.seed};
}

std::string temporary_folder() {
  char folder[] = "/tmp/switchyard-tiny-XXXXXX";
  check(mkdtemp(folder) != nullptr, "tests: no temporary folder");
  return folder;
}

// Words w belong to class w % 3; the tokens of an example are mostly of its class.
std::unique_ptr<ExampleFile> make_examples(const TinyJob& job) {
  const std::string folder = temporary_folder(), path = folder + "/train.examples";
  ExampleFileInfo info;
  info.split = "train";
  info.vocabulary = job.vocabulary;
  info.classes = job.trainer.model.classifier.classes;
  ExampleFileWriter writer(path, info);
  for (int64_t example = 0; example < job.examples; ++example) {
    const auto label = static_cast<int32_t>(example % info.classes);
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < example % 21; ++i) {
      const uint64_t draw = mix64(static_cast<uint64_t>(example * 1000 + i));
      const auto word = static_cast<int32_t>(draw / 4 % static_cast<uint64_t>(job.vocabulary - 3));
      tokens.push_back(draw % 4 == 0 ? word : word / 3 * 3 + label);
    }
    writer.add(label, tokens, static_cast<int64_t>(tokens.size()));
  }
  writer.finish();
  auto file = std::make_unique<ExampleFile>(path);
  std::filesystem::remove_all(folder);  // the open file stays
  return file;
}

std::unique_ptr<TokenFile> make_tokens(const TinyJob& job) {
  const std::string folder = temporary_folder(), path = folder + "/train.tokens";
  TokenFileInfo info;
  info.split = "train";
  info.vocabulary = job.vocabulary;
  info.end_of_document = 0;
  TokenFileWriter writer(path, info);
  int64_t written = 0;
  for (uint64_t document = 0; written < job.corpus_tokens; ++document) {
    std::vector<int32_t> tokens;
    int32_t last = 1;
    const int64_t length = 5 + static_cast<int64_t>(mix64(document) % 40);
    for (int64_t i = 0; i < length; ++i) {
      // Mostly a fixed successor, so that there is something to learn.
      const uint64_t draw = mix64(document * 1000 + static_cast<uint64_t>(i));
      last = draw % 4 == 0 ? static_cast<int32_t>(1 + draw / 4 % static_cast<uint64_t>(job.vocabulary - 1))
                           : 1 + (last * 7 + 3) % static_cast<int32_t>(job.vocabulary - 1);
      tokens.push_back(last);
    }
    writer.add_document(tokens, length);
    written += length + 1;
  }
  writer.finish();
  auto file = std::make_unique<TokenFile>(path);
  std::filesystem::remove_all(folder);  // the open file stays
  return file;
}

std::unique_ptr<BatchSource> training_batches(const TinyJob& job) {
  if (job.trainer.model.kind == ModelKind::kDecoder) return std::make_unique<Batches>(tiny_tokens(job), batch_options(job));
  return std::make_unique<LabelledBatches>(tiny_examples(job), 0, batch_options(job));
}

}  // namespace

TinyJob tiny_job() {
  TinyJob job;
  ModelOptions& model = job.trainer.model;
  model.vocabulary = job.vocabulary;
  model.width = 16;
  model.heads = 2;
  model.head_width = 8;
  model.feed_forward = 24;
  model.blocks = 2;
  model.sequence_length = 12;
  model.dropout = 0.1;
  model.hidden_dropout = 0.1;
  model.embedding_deviation = 0.3;
  model.scale_tied_head = false;
  model.scale_attention = true;
  model.moe = {.experts = 6, .every = 2, .capacity_factor = 1.0, .eval_capacity_factor = 2.0, .min_capacity = 2};
  model.moe.z_loss = 1e-3;
  model.moe.expert_dropout = 0.2;
  model.moe.group_tokens = 18;
  job.trainer.train = {.seed = 11, .steps = 40, .lanes = 8, .accumulate = 2, .sequences = 2, .sequence_length = 12};
  job.trainer.optimizer.clip_norm = 0.5;
  job.trainer.schedule = {.kind = ScheduleKind::kCosine, .rate = 3e-3, .warmup_steps = 5, .schedule_steps = 40};
  job.trainer.precision = kPrecisionF32;
  return job;
}

TinyJob tiny_classifier_job() {
  TinyJob job = tiny_job();
  ModelOptions& model = job.trainer.model;
  model.kind = ModelKind::kClassifier;
  model.norm_place = NormPlace::kPost;
  model.classifier = {.classes = 3, .hidden = 10, .dropout = 0.2};
  model.bias = true;
  return job;
}

const ExampleFile& tiny_examples(const TinyJob& job) {
  static const std::unique_ptr<ExampleFile> file = make_examples(job);
  return *file;
}

const TokenFile& tiny_tokens(const TinyJob& job) {
  static const std::unique_ptr<TokenFile> file = make_tokens(job);
  return *file;
}

TinyRank::TinyRank(const TinyJob& job, Communicator& communicator)
    : job_(job),
      communicator_(communicator),
      grid_(communicator.rank(), communicator.size(), job.trainer.train.lanes, job.trainer.train.expert_replicas),
      own_(job.cpu_backend ? make_cpu_backend(job.threads) : make_reference_backend()),
      trainer_(std::make_unique<Trainer>(Parts{job.backend != nullptr ? *job.backend : *own_, communicator, grid_, trace_}, job.trainer)),
      batches_(training_batches(job)) {}

void TinyRank::train(int64_t steps) {
  while (trainer_->progress().step < steps) trainer_->step(*batches_);
}

std::unique_ptr<EvaluationSource> TinyRank::heldout() const {
  if (job_.trainer.model.kind == ModelKind::kDecoder) return std::make_unique<EvaluationBatches>(tiny_tokens(job_), batch_options(job_), 40);
  return std::make_unique<LabelledEvaluationBatches>(tiny_examples(job_), 0, batch_options(job_), 50);
}

EvaluationReport TinyRank::evaluate() {
  const auto source = heldout();
  return switchyard::evaluate(trainer_->runtime(), *source);
}

std::string TinyRank::digest() { return state_digest(communicator_, trainer_->state()); }

void run_tiny(const TinyJob& job, int ranks, const std::function<void(TinyRank&, Communicator&)>& body) {
  const OutboxSizes sizes = outbox_sizes(job.trainer.model, job.trainer.train, job.trainer.precision, ranks);
  run_ranks(ranks,
            [&](Communicator& communicator) {
              TinyRank rank(job, communicator);
              body(rank, communicator);
            },
            {.sizes = sizes});
}

Trail trail_of(const TinyJob& job, int ranks, int64_t steps) {
  Trail trail;
  run_tiny(job, ranks, [&](TinyRank& rank, Communicator& communicator) {
    Trail own;
    rank.trainer().initialise(1);
    for (int64_t step = 0; step < steps; ++step) {
      const StepReport report = rank.trainer().step(rank.batches());
      own.losses.push_back(report.loss.total());
      own.norms.push_back(report.gradient_norm);
      for (const LayerReport& layer : report.layers) own.dropped.push_back(layer.dropped);
    }
    own.digest = rank.digest();
    own.evaluation = rank.evaluate();
    if (communicator.rank() == 0) trail = std::move(own);
  });
  return trail;
}

void expect_same(const Trail& trail, const Trail& expected, const std::string& what) {
  EXPECT_EQ(trail.losses, expected.losses) << what;
  EXPECT_EQ(trail.norms, expected.norms) << what;
  EXPECT_EQ(trail.dropped, expected.dropped) << what;
  EXPECT_EQ(trail.digest, expected.digest) << what;
  EXPECT_EQ(trail.evaluation.nats, expected.evaluation.nats) << what;
  EXPECT_EQ(trail.evaluation.correct, expected.evaluation.correct) << what;
  EXPECT_EQ(trail.evaluation.confusion, expected.evaluation.confusion) << what;
}

}  // namespace switchyard
