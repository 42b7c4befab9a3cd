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

}  // namespace
}  // namespace switchyard
