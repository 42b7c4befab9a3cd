#include "src/config/preset.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "src/config/build.h"
#include "src/config/load.h"
#include "src/config/validate.h"
#include "src/moe/capacity.h"
#include "tests/config/config_helper.h"

namespace switchyard {
namespace {

MoeOptions options_of(std::vector<std::string> overrides) {
  const Config config = resolve_config(valid_config_with(overrides), false);
  EXPECT_NO_THROW(validate(config, 1)) << overrides.front();
  return model_options(config).moe;
}

std::vector<std::string> preset(const std::string& name, std::vector<std::string> more = {}) {
  more.push_back("model.moe.preset=" + name);
  return more;
}

// The rows of systems.md 1h: tokens of a group, experts, factor.
struct Line {
  int64_t tokens;
  int experts;
  double factor;
};
constexpr Line kLines[] = {{100, 8, 1.25}, {20, 8, 1.0}, {6, 8, 1.0}, {1030, 128, 1.25}, {4096, 64, 1.0}};

TEST(Preset, GivesTheSlotsOfItsSystem) {
  const std::pair<const char*, std::vector<int64_t>> columns[] = {{"MESH", {15, 4, 4, 10, 64}},     {"FLAXFORMER", {16, 4, 4, 10, 64}},
                                                                  {"MEGATRON", {16, 3, 1, 11, 64}}, {"DEEPSPEED", {16, 4, 4, 11, 64}},
                                                                  {"TUTEL", {16, 3, 1, 11, 64}},    {"KERAS", {11, 1, 1, 7, 63}}};
  for (const auto& [name, slots] : columns) {
    for (size_t i = 0; i < std::size(kLines); ++i) {
      std::vector<std::string> overrides = {fmt::format("model.moe.experts={}", kLines[i].experts), "model.moe.order=LEFT_TO_RIGHT"};
      // Keras' example does not read its factor.
      if (std::string(name) != "KERAS") overrides.push_back(fmt::format("model.moe.capacity_factor={}", kLines[i].factor));
      EXPECT_EQ(capacity(options_of(preset(name, overrides)), kLines[i].tokens, true), slots[i]) << name << " with " << kLines[i].tokens << " tokens";
    }
  }
}

TEST(Preset, HfHas64SlotsInEverySequence) {
  for (const int64_t length : {8, 200, 512, 1000}) {
    const MoeOptions options = options_of(preset("HF", {fmt::format("model.sequence_length={}", length), "model.moe.experts=7"}));
    EXPECT_EQ(options.group_tokens, length);
    EXPECT_EQ(capacity(options, length, true), std::min<int64_t>(64, length));
    EXPECT_EQ(capacity(options, length, false), std::min<int64_t>(64, length));
  }
}

TEST(Preset, SetsTheLossRuleOfItsSystem) {
  struct Rule {
    const char* name;
    double balance, z, jitter;
    OverLayers over;
  };
  for (const Rule& rule :
       {Rule{"MESH", 0.01, 0, 0.01, OverLayers::kSum}, Rule{"FLAXFORMER", 0.01, 0, 0, OverLayers::kMean}, Rule{"HF", 0.001, 0.001, 0.01, OverLayers::kMean},
        Rule{"MEGATRON", 0.01, 0, 0, OverLayers::kSum}, Rule{"DEEPSPEED", 0.01, 0, 0, OverLayers::kSum}, Rule{"TUTEL", 0.01, 0, 0, OverLayers::kSum},
        Rule{"KERAS", 1, 0, 0.1, OverLayers::kSum}}) {
    const MoeOptions options = options_of(preset(rule.name));
    EXPECT_EQ(options.balance_loss, rule.balance) << rule.name;
    EXPECT_EQ(options.z_loss, rule.z) << rule.name;
    EXPECT_EQ(options.jitter, rule.jitter) << rule.name;
    EXPECT_EQ(options.balance_over_layers, rule.over) << rule.name;
    EXPECT_EQ(options.order, SlotOrder::kLeftToRight) << rule.name;
  }
  EXPECT_EQ(options_of(preset("KERAS")).exploration, Exploration::kLogitNoise);
}

TEST(Preset, SetsTheGateOfItsSystem) {
  for (const char* name : {"MESH", "DEEPSPEED", "TUTEL"}) {
    EXPECT_EQ(options_of(preset(name)).gate, GateKind::kProbability) << name;
    EXPECT_EQ(options_of(preset(name, {"model.moe.top_k=2"})).gate, GateKind::kRenormalised) << name;
  }
  EXPECT_EQ(options_of(preset("MEGATRON")).gate, GateKind::kRenormalised) << "its softmax comes after the choice";
  EXPECT_EQ(options_of(preset("FLAXFORMER", {"model.moe.top_k=2"})).gate, GateKind::kProbability);
}

TEST(Preset, CapacityCountsChoicesWhereTheSystemDoes) {
  const auto with_two = [](const char* name) {
    return capacity(options_of(preset(name, {"model.moe.top_k=2", "model.moe.experts=8", "model.moe.capacity_factor=1", "model.moe.order=LEFT_TO_RIGHT"})), 100,
                    true);
  };
  EXPECT_EQ(with_two("MESH"), 12);
  EXPECT_EQ(with_two("FLAXFORMER"), 12);
  EXPECT_EQ(with_two("MEGATRON"), 25);
  EXPECT_EQ(with_two("DEEPSPEED"), 25);
  EXPECT_EQ(with_two("TUTEL"), 26);
}

TEST(Preset, MegatronDropsOnlyWhereAFactorIsGiven) {
  const MoeOptions dropless = options_of(preset("MEGATRON"));
  EXPECT_EQ(dropless.capacity_factor, 0);
  EXPECT_EQ(dropless.eval_capacity_factor, 0);
  EXPECT_EQ(dropless.order, SlotOrder::kLeftToRight) << "there is nothing to order";
  const MoeOptions dropping = options_of(preset("MEGATRON", {"model.moe.capacity_factor=1.5", "model.moe.allow_acausal=true"}));
  EXPECT_EQ(dropping.eval_capacity_factor, 1.5) << "it has no other factor in evaluation";
  EXPECT_EQ(dropping.order, SlotOrder::kBatchPrioritised);
}

TEST(Preset, MeshAndFlaxformerCutTheMicroBatchIntoEqualGroups) {
  const auto groups = [](const char* name, int64_t sequences, int64_t length) {
    return options_of(preset(name, {fmt::format("train.sequences={}", sequences), fmt::format("model.sequence_length={}", length)})).group_tokens;
  };
  EXPECT_EQ(groups("MESH", 2, 8), 0) << "one group";
  EXPECT_EQ(groups("MESH", 4, 512), 1024);
  EXPECT_EQ(groups("MESH", 5, 512), 1280) << "two groups of 1280: the number of groups is rounded down";
  EXPECT_EQ(groups("MESH", 7, 450), 1050) << "three";
  EXPECT_EQ(groups("MESH", 25, 100), 1250);
  EXPECT_EQ(groups("MESH", 23, 101), 101) << "2323 = 23 * 101: neither 2 nor 3 ... 22 groups are equal";
  EXPECT_EQ(groups("FLAXFORMER", 32, 512), 8192);
}

TEST(Preset, WhatTheFileSetsStays) {
  const MoeOptions options = options_of(preset("MESH", {"model.moe.min_capacity=7", "model.moe.jitter=0", "model.moe.capacity_rounding=UP"}));
  EXPECT_EQ(options.min_capacity, 7);
  EXPECT_EQ(options.jitter, 0) << "a default that is written down is set";
  EXPECT_EQ(options.capacity_rounding, CapacityRounding::kUp);
}

TEST(Preset, TwiceIsOnce) {
  for (const char* name : {"NONE", "MESH", "FLAXFORMER", "HF", "MEGATRON", "DEEPSPEED", "TUTEL", "KERAS"}) {
    Config config = valid_config_with(preset(name));
    settle_routing(config);
    const std::string once = print_config(config);
    settle_routing(config);
    EXPECT_EQ(print_config(config), once) << name;
    EXPECT_EQ(print_config(resolve_config(parse_config(once, "stored"), false)), print_config(resolve_config(config, false))) << name;
  }
}

TEST(Preset, SizesThatValidateRefusesDoNoHarm) {
  for (const char* size : {"-5", "0", "9000000000000000000"}) {
    Config config = valid_config_with(preset("MESH", {fmt::format("train.sequences={}", size)}));
    EXPECT_NO_THROW(settle_routing(config)) << size;
    EXPECT_THROW(validate(config, 1), Error) << size;
  }
}

TEST(Router, LeavesNoChoiceAboutSomeFields) {
  const MoeOptions hash = options_of({"model.moe.router=HASH"});
  EXPECT_EQ(hash.jitter, 0);
  EXPECT_EQ(hash.balance_loss, 0);
  EXPECT_EQ(hash.gate, GateKind::kMaskOnly);
  EXPECT_EQ(hash.vocabulary, 64);
  EXPECT_EQ(hash.seed, 1);
  const MoeOptions choice = options_of({"model.moe.router=EXPERT_CHOICE", "model.moe.allow_acausal=true", "model.moe.preset=KERAS"});
  EXPECT_EQ(choice.balance_loss, 0) << "the router comes before the preset";
  EXPECT_EQ(choice.jitter, 0.1);
}

}  // namespace
}  // namespace switchyard
