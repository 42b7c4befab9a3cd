// The configurations that come with the program are what they promise to be.
#include <gmock/gmock.h>

#include "src/config/build.h"
#include "src/config/load.h"
#include "src/config/validate.h"
#include "tests/config/config_helper.h"

namespace switchyard {
namespace {

Config shipped(const std::string& name) {
  Config config = load_config(std::string(SWITCHYARD_SOURCE_DIR) + "/configs/" + name + ".textproto", {});
  validate(config, 2);
  return config;
}

TEST(ShippedConfigs, TinyHasEverythingThatCouldDependOnRanks) {
  const Config config = shipped("lm_tiny");
  EXPECT_NO_THROW(validate(config, 8)) << "verify runs it on 8 ranks";
  EXPECT_NO_THROW(validate_vocabulary(config, 257)) << "its tokens are bytes and the end of a document";
  EXPECT_EQ(config.train().lanes(), 8);
  EXPECT_EQ(config.train().accumulate(), 2);
  EXPECT_EQ(config.model().moe().experts(), 6);
  EXPECT_GT(config.model().dropout(), 0);
  EXPECT_GT(config.model().hidden_dropout(), 0);
  EXPECT_GT(config.model().moe().expert_dropout(), 0);
  EXPECT_GT(config.model().moe().jitter(), 0);
  EXPECT_GT(config.optimizer().clip_norm(), 0);
}

void expect_main_model(const Config& config) {
  const Config::Model& model = config.model();
  EXPECT_EQ(model.vocabulary(), 8192);
  EXPECT_EQ(model.norm(), Config::Model::LAYER_NORM);
  EXPECT_FALSE(model.bias());
  EXPECT_TRUE(model.scale_attention());
  EXPECT_FALSE(model.scale_tied_head());
  EXPECT_EQ(model.embedding_deviation(), 0.02);
  EXPECT_EQ(model.moe().capacity_factor(), 1.25);
  EXPECT_EQ(model.moe().every(), 2);
  EXPECT_EQ(config.train().lanes(), 2);
  EXPECT_EQ(config.train().lanes() * config.train().accumulate() * config.train().sequences() * model.sequence_length(), 4096);
  EXPECT_EQ(config.optimizer().schedule(), Config::Optimizer::COSINE);
}

TEST(ShippedConfigs, SmallAndMediumAreTheModelsOfTheMainJob) {
  const Config small = shipped("lm_small"), medium = shipped("lm_medium");
  expect_main_model(small);
  expect_main_model(medium);
  EXPECT_EQ(small.model().moe().experts(), 8);
  EXPECT_EQ(small.model().blocks(), 4);
  EXPECT_EQ(medium.model().moe().experts(), 16);
  EXPECT_EQ(medium.model().blocks(), 8);
  EXPECT_EQ(medium.model().width(), 512);
}

TEST(ShippedConfigs, DenseTwinDiffersInTheExpertsOnly) {
  Config small = shipped("lm_small"), dense = shipped("lm_small_dense");
  EXPECT_EQ(dense.model().moe().experts(), 1);
  small.mutable_model()->clear_moe();
  dense.mutable_model()->clear_moe();
  EXPECT_EQ(print_config(small), print_config(dense));
}

TEST(ShippedConfigs, HashedWordsHaveTheSameDenseTwin) {
  Config hash = shipped("lm_hash");
  const Config dense = shipped("lm_small_dense");
  EXPECT_EQ(hash.model().moe().router(), Config::Model::Moe::HASH);
  EXPECT_EQ(hash.model().moe().every(), 1);
  Config::Model* model = hash.mutable_model();
  *model->mutable_moe() = dense.model().moe();
  EXPECT_EQ(print_config(hash).substr(0, print_config(hash).find("train {")), print_config(dense).substr(0, print_config(dense).find("train {")));
  EXPECT_EQ(hash.optimizer().learning_rate(), dense.optimizer().learning_rate());
  EXPECT_EQ(hash.train().lanes() * hash.train().sequences(), dense.train().lanes() * dense.train().sequences());
}

void expect_tutorials(const Config& config) {
  const Config::Model& model = config.model();
  EXPECT_EQ(model.kind(), Config::Model::CLASSIFIER);
  EXPECT_EQ(model.norm_place(), Config::Model::POST);
  EXPECT_EQ(model.vocabulary(), 20000);
  EXPECT_EQ(model.sequence_length(), 200);
  EXPECT_EQ(model.width(), 32);
  EXPECT_EQ(model.heads(), 2);
  EXPECT_EQ(model.head_width(), 32);
  EXPECT_EQ(model.feed_forward(), 32);
  EXPECT_EQ(model.moe().every(), 1);
  EXPECT_EQ(model.moe().gate(), Config::Model::Moe::PROBABILITY) << "the router learns, as the paper means it";
  EXPECT_GT(model.moe().balance_loss(), 0);
  EXPECT_TRUE(model.bias());
  EXPECT_EQ(config.optimizer().kind(), Config::Optimizer::ADAMW);
  EXPECT_EQ(config.optimizer().decay(), 0) << "Adam";
  EXPECT_EQ(config.optimizer().clip_norm(), 0);
  EXPECT_EQ(config.optimizer().learning_rate(), 0.001);
  EXPECT_EQ(config.optimizer().epsilon(), 1e-7);
  EXPECT_EQ(config.train().lanes(), 2);
  EXPECT_GT(config.train().epochs(), 0);
  EXPECT_TRUE(config.checkpoint().keep_best());
  EXPECT_EQ(resolve_config(config, false).train().steps(), kMaxSteps) << "epochs end it";
}

int64_t texts_of_a_step(const Config& config) { return config.train().lanes() * config.train().accumulate() * config.train().sequences(); }

TEST(ShippedConfigs, ClassifiersAreThoseOfTheTutorials) {
  const Config tutorial = shipped("classify_tutorial"), stacked = shipped("classify_stacked"), keras_io = shipped("classify_keras_io");
  for (const Config& config : {tutorial, stacked, keras_io, shipped("classify_gcide")}) expect_tutorials(config);
  for (const Config& config : {tutorial, stacked}) {
    EXPECT_EQ(config.model().moe().experts(), 4);
    EXPECT_EQ(texts_of_a_step(config), 32);
    EXPECT_EQ(config.train().epochs(), 5);
    EXPECT_EQ(config.model().classifier().classes(), 2);
  }
  EXPECT_EQ(tutorial.model().blocks(), 1);
  EXPECT_EQ(tutorial.model().classifier().hidden(), 20);
  EXPECT_EQ(tutorial.model().classifier().dropout(), 0.1);
  EXPECT_EQ(stacked.model().blocks(), 2);
  EXPECT_EQ(stacked.model().classifier().hidden(), 0);
  EXPECT_EQ(keras_io.model().moe().experts(), 10);
  EXPECT_EQ(keras_io.model().classifier().hidden(), 32);
  EXPECT_EQ(keras_io.model().classifier().dropout(), 0.25);
  EXPECT_EQ(texts_of_a_step(keras_io), 50);
  EXPECT_EQ(keras_io.train().epochs(), 3);
}

// The comment at the head of the file says which fields to set.
TEST(ShippedConfigs, TheTutorialsQuirksAreToBeHad) {
  const std::vector<std::string> quirks = {
      "model.moe.gate=MASK_ONLY",           "model.moe.balance_loss=0",          "model.moe.jitter=0", "model.moe.capacity_factor=0",
      "model.classifier.pool_padding=true", "model.classifier.see_padding=true", "data.pad=FRONT",     "data.cut=FRONT"};
  Config config = shipped("classify_tutorial");
  EXPECT_NO_THROW({
    apply_overrides(config, quirks);
    validate(config, 2);
  });
}

TEST(ShippedConfigs, TheTinyClassifierHasEverythingThatCouldDependOnRanks) {
  const Config config = shipped("classify_tiny");
  EXPECT_NO_THROW(validate(config, 8)) << "verify runs it on 8 ranks";
  EXPECT_EQ(config.train().accumulate(), 2);
  EXPECT_EQ(config.model().moe().experts(), 6);
  EXPECT_GT(config.model().dropout(), 0);
  EXPECT_GT(config.model().classifier().dropout(), 0);
  EXPECT_GT(config.model().moe().expert_dropout(), 0);
  EXPECT_GT(config.optimizer().clip_norm(), 0);
}

}  // namespace
}  // namespace switchyard
