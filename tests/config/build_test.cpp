// Builders carry every field over, and the defaults of the schema are those of the plain structs.
#include "src/config/build.h"

#include <gmock/gmock.h>

#include "src/config/load.h"
#include "src/config/resume.h"
#include "src/config/validate.h"
#include "tests/config/config_helper.h"

namespace switchyard {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ConfigBuild, CarriesTheModelOver) {
  const ModelOptions model =
      model_options(valid_config_with({"model.head_width=5", "model.norm=RMS_NORM", "model.norm_epsilon=0.25", "model.bias=true", "model.dropout=0.1",
                                       "model.hidden_dropout=0.2", "model.initializer_scale=0.3", "model.embedding_deviation=0.4",
                                       "model.attention_deviation=0.6", "model.scale_tied_head=false", "model.scale_attention=true", "model.z_loss=0.5"}));
  EXPECT_EQ(model.vocabulary, 64);
  EXPECT_EQ(model.width, 16);
  EXPECT_EQ(model.heads, 2);
  EXPECT_EQ(model.head_width, 5);
  EXPECT_EQ(model.feed_forward, 32);
  EXPECT_EQ(model.blocks, 2);
  EXPECT_EQ(model.sequence_length, 8);
  EXPECT_EQ(model.norm.kind, NormKind::kRmsNorm);
  EXPECT_EQ(model.norm.epsilon, 0.25);
  EXPECT_TRUE(model.bias);
  EXPECT_EQ(model.dropout, 0.1);
  EXPECT_EQ(model.hidden_dropout, 0.2);
  EXPECT_EQ(model.initializer_scale, 0.3);
  EXPECT_EQ(model.embedding_deviation, 0.4);
  EXPECT_EQ(model.attention_deviation, 0.6);
  EXPECT_FALSE(model.scale_tied_head);
  EXPECT_TRUE(model.scale_attention);
  EXPECT_EQ(model.z_loss, 0.5);
}

TEST(ConfigBuild, CarriesTheClassifierOver) {
  const Config config = valid_config_with({"model.kind=CLASSIFIER", "model.norm_place=POST", "model.classifier.classes=3", "model.classifier.hidden=5",
                                           "model.classifier.dropout=0.3", "model.classifier.pool_padding=true", "model.classifier.see_padding=true",
                                           "data.pad=FRONT", "train.epochs=7", "train.patience=2"});
  const ModelOptions model = model_options(config);
  EXPECT_EQ(model.kind, ModelKind::kClassifier);
  EXPECT_EQ(model.norm_place, NormPlace::kPost);
  EXPECT_EQ(model.classifier.classes, 3);
  EXPECT_EQ(model.classifier.hidden, 5);
  EXPECT_EQ(model.classifier.dropout, 0.3);
  EXPECT_TRUE(model.classifier.pool_padding);
  EXPECT_TRUE(model.classifier.see_padding);
  EXPECT_EQ(train_options(config).epochs, 7);
  EXPECT_EQ(train_options(config).patience, 2);
  const BatchOptions batches = batch_options(config);
  EXPECT_EQ(batches.pad, TextSide::kFront);
  EXPECT_EQ(batches.cut, TextSide::kBack);
  EXPECT_TRUE(batches.see_padding);
  EXPECT_TRUE(batches.whole_length) << "padding is seen";
  EXPECT_FALSE(batch_options(valid_config_with({})).whole_length);
  EXPECT_EQ(batch_options(valid_config_with({"data.cut=FRONT"})).cut, TextSide::kFront);
}

TEST(ConfigBuild, CarriesTheExpertsOver) {
  const MoeOptions moe =
      model_options(valid_config_with({"model.moe.every=1", "model.moe.capacity_factor=1.5", "model.moe.eval_capacity_factor=3", "model.moe.min_capacity=2",
                                       "model.moe.capacity_rounding=UP", "model.moe.group_tokens=8", "model.moe.jitter=0.1", "model.moe.balance_loss=0.2",
                                       "model.moe.z_loss=0.3", "model.moe.expert_dropout=0.4"}))
          .moe;
  EXPECT_EQ(moe.experts, 4);
  EXPECT_EQ(moe.every, 1);
  EXPECT_EQ(moe.capacity_factor, 1.5);
  EXPECT_EQ(moe.eval_capacity_factor, 3);
  EXPECT_EQ(moe.min_capacity, 2);
  EXPECT_EQ(moe.capacity_rounding, CapacityRounding::kUp);
  EXPECT_EQ(moe.group_tokens, 8);
  EXPECT_EQ(moe.jitter, 0.1);
  EXPECT_EQ(moe.balance_loss, 0.2);
  EXPECT_EQ(moe.z_loss, 0.3);
  EXPECT_EQ(moe.expert_dropout, 0.4);
}

TEST(ConfigBuild, CarriesBiasScopeAndSharedExpertsOver) {
  const MoeOptions moe = model_options(valid_config_with({"model.moe.bias_rate=0.01", "model.moe.balance_scope=GLOBAL", "model.moe.balance_over_layers=MEAN",
                                                          "model.moe.shared_experts=2", "model.moe.feed_forward=12", "model.moe.soft_slots=3"}))
                             .moe;
  EXPECT_EQ(moe.bias_rate, 0.01);
  EXPECT_EQ(moe.balance_scope, BalanceScope::kGlobal);
  EXPECT_EQ(moe.balance_over_layers, OverLayers::kMean);
  EXPECT_EQ(moe.shared_experts, 2);
  EXPECT_EQ(moe.feed_forward, 12);
  EXPECT_EQ(moe.soft_slots, 3);
}

TEST(ConfigBuild, CarriesTheOptimizerOver) {
  const Config config =
      valid_config_with({"optimizer.kind=SGD", "optimizer.learning_rate=0.5", "optimizer.beta1=0.1", "optimizer.beta2=0.2", "optimizer.epsilon=0.3",
                         "optimizer.momentum=0.4", "optimizer.decay=0.6", "optimizer.clip_norm=0.7", "optimizer.schedule=LINEAR", "optimizer.warmup_steps=8",
                         "optimizer.schedule_steps=9", "optimizer.final_fraction=0.25"});
  const OptimizerOptions optimizer = optimizer_options(config);
  EXPECT_EQ(optimizer.kind, OptimizerKind::kSgd);
  EXPECT_EQ(optimizer.beta1, 0.1);
  EXPECT_EQ(optimizer.beta2, 0.2);
  EXPECT_EQ(optimizer.epsilon, 0.3);
  EXPECT_EQ(optimizer.momentum, 0.4);
  EXPECT_EQ(optimizer.decay, 0.6);
  EXPECT_EQ(optimizer.clip_norm, 0.7);
  const ScheduleOptions schedule = schedule_options(config);
  EXPECT_EQ(schedule.kind, ScheduleKind::kLinear);
  EXPECT_EQ(schedule.rate, 0.5);
  EXPECT_EQ(schedule.warmup_steps, 8);
  EXPECT_EQ(schedule.schedule_steps, 9);
  EXPECT_EQ(schedule.final_fraction, 0.25);
}

TEST(ConfigBuild, CarriesTheStepOver) {
  const Config config = valid_config_with({"seed=18446744073709551615", "train.accumulate=3", "model.moe.group_tokens=8", "parallel.expert_replicas=2"});
  const TrainOptions train = train_options(config);
  EXPECT_EQ(train.expert_replicas, 2);
  EXPECT_EQ(train.seed, 18446744073709551615u);
  EXPECT_EQ(train.steps, 10);
  EXPECT_EQ(train.lanes, 4);
  EXPECT_EQ(train.accumulate, 3);
  EXPECT_EQ(train.sequences, 2);
  EXPECT_EQ(train.sequence_length, 8);
  const BatchOptions batches = batch_options(config);
  EXPECT_EQ(batches.lanes, 4);
  EXPECT_EQ(batches.accumulate, 3);
  EXPECT_EQ(batches.sequences, 2);
  EXPECT_EQ(batches.sequence_length, 8);
  EXPECT_EQ(batches.group_tokens, 8);
  EXPECT_EQ(batches.seed, 18446744073709551615u);
}

TEST(ConfigBuild, ABlockOfFixedSizeHoldsWhatAnExpertKeepsOfAMicroBatch) {
  EXPECT_EQ(model_options(valid_config()).moe.fixed_block, 0);
  const Config config = valid_config_with({"parallel.fixed_blocks=true", "model.moe.capacity_factor=1.5", "model.moe.min_capacity=1"});
  EXPECT_EQ(model_options(config).moe.fixed_block, 6) << "16 tokens, 4 experts";
}

TEST(ConfigBuild, DefaultsOfTheSchemaAreThoseOfTheStructs) {
  const Config config = valid_config();
  const ModelOptions model = model_options(config), plain;
  EXPECT_EQ(model.norm.kind, plain.norm.kind);
  EXPECT_EQ(model.norm.epsilon, plain.norm.epsilon);
  EXPECT_EQ(model.bias, plain.bias);
  EXPECT_EQ(model.initializer_scale, plain.initializer_scale);
  EXPECT_EQ(model.embedding_deviation, plain.embedding_deviation);
  EXPECT_EQ(model.attention_deviation, plain.attention_deviation);
  EXPECT_EQ(model.scale_tied_head, plain.scale_tied_head);
  EXPECT_EQ(model.scale_attention, plain.scale_attention);
  EXPECT_EQ(model.z_loss, plain.z_loss);
  EXPECT_EQ(model.moe.every, plain.moe.every);
  EXPECT_EQ(model.moe.capacity_factor, plain.moe.capacity_factor);
  EXPECT_EQ(model.moe.eval_capacity_factor, plain.moe.eval_capacity_factor);
  EXPECT_EQ(model.moe.min_capacity, plain.moe.min_capacity);
  EXPECT_EQ(model.moe.capacity_rounding, plain.moe.capacity_rounding);
  EXPECT_EQ(model.moe.jitter, plain.moe.jitter);
  EXPECT_EQ(model.moe.balance_loss, plain.moe.balance_loss);
  const OptimizerOptions optimizer = optimizer_options(config), plain_optimizer;
  EXPECT_EQ(optimizer.beta1, plain_optimizer.beta1);
  EXPECT_EQ(optimizer.beta2, plain_optimizer.beta2);
  EXPECT_EQ(optimizer.epsilon, plain_optimizer.epsilon);
  EXPECT_EQ(optimizer.decay, plain_optimizer.decay);
  EXPECT_EQ(optimizer.clip_norm, plain_optimizer.clip_norm);
  EXPECT_EQ(schedule_options(config).rate, ScheduleOptions().rate);
  EXPECT_EQ(schedule_options(config).final_fraction, ScheduleOptions().final_fraction);
}

TEST(ConfigBuild, ResolvingSettlesWhatIsAutomatic) {
  EXPECT_EQ(resolve_config(valid_config(), true).precision(), Config::BF16);
  EXPECT_EQ(resolve_config(valid_config(), false).precision(), Config::F32);
  EXPECT_EQ(resolve_config(valid_config_with({"precision=F32"}), true).precision(), Config::F32);
  EXPECT_EQ(resolve_config(valid_config(), true).model().head_width(), 8);
  EXPECT_EQ(precision(resolve_config(valid_config(), true)).activation, Dtype::kBF16);
  EXPECT_EQ(precision(resolve_config(valid_config(), true)).exact, Dtype::kF32);
}

// Epochs end a run, and steps only where they are given, too.
TEST(ConfigBuild, EpochsWithoutStepsHaveNoLimit) {
  Config epochs = valid_config_with({"train.epochs=3"});
  epochs.mutable_train()->clear_steps();
  EXPECT_EQ(resolve_config(epochs, false).train().steps(), kMaxSteps);
  EXPECT_EQ(resolve_config(valid_config_with({"train.epochs=3", "train.steps=7"}), false).train().steps(), 7);
  Config neither = valid_config();
  neither.mutable_train()->clear_steps();
  EXPECT_EQ(resolve_config(neither, false).train().steps(), 1000);
}

TEST(ConfigBuild, RunsAreNamedAfterTheFile) { EXPECT_EQ(config_name("configs/lm_small.textproto"), "lm_small"); }

TEST(ConfigResume, TheRunItselfAndAutomaticValuesResume) {
  const Config stored = resolve_config(valid_config(), true);
  const Config resumed = resume_config(stored, valid_config());
  EXPECT_EQ(resumed.precision(), Config::BF16) << "AUTO takes what the run was begun with, whatever this machine prefers";
  EXPECT_EQ(print_config(resumed), print_config(stored));
}

TEST(ConfigResume, WhatDoesNotChangeTheRunMayDiffer) {
  const Config stored = resolve_config(valid_config(), false);
  const std::vector<std::string> overrides = {"train.steps=99",   "train.epochs=3",         "train.patience=4",   "threads=2",
                                              "device=REFERENCE", "parallel.transport=MPI", "checkpoint.every=3", "checkpoint.keep=9",
                                              "eval.every=4",     "eval.batches=1",         "log.every=7",        "log.trace=true"};
  const Config resumed = resume_config(stored, valid_config_with(overrides));
  EXPECT_EQ(resumed.train().steps(), 99);
  EXPECT_EQ(resumed.checkpoint().every(), 3);
}

TEST(ConfigResume, AnyOtherDifferenceIsNamed) {
  const Config stored = resolve_config(valid_config(), false);
  for (const char* change : {"seed=2", "train.lanes=8", "train.accumulate=2", "train.sequences=1", "model.width=32", "model.moe.experts=8",
                             "model.head_width=16", "optimizer.learning_rate=0.5", "optimizer.schedule_steps=5", "data.corpus=other", "precision=BF16",
                             "parallel.expert_replicas=2", "parallel.slices=2", "parallel.fixed_blocks=true", "model.bias=true"}) {
    const std::string name = std::string(change).substr(0, std::string(change).find('='));
    EXPECT_THAT(error_of(ExitCode::kUsage, [&] { resume_config(stored, valid_config_with({change})); }), StartsWith(name + " is ")) << change;
  }
  EXPECT_THAT(error_of(ExitCode::kUsage, [&] { resume_config(stored, valid_config_with({"seed=2"})); }),
              HasSubstr("seed is 2 but the run to be resumed has 1; keep it"));
}

}  // namespace
}  // namespace switchyard
