// Which ways of routing go together, and what is said where they do not.
#include <gmock/gmock.h>

#include "src/config/validate.h"
#include "tests/config/config_helper.h"

namespace switchyard {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Overrides = std::vector<std::string>;

std::string refusal(const Overrides& overrides) {
  return error_of(ExitCode::kUsage, [&] { validate(valid_config_with(overrides), 1); });
}
void accept(const Overrides& overrides) { EXPECT_NO_THROW(validate(valid_config_with(overrides), 1)) << overrides.front(); }

const char* const kClassifier = "model.kind=CLASSIFIER";
const char* const kClasses = "model.classifier.classes=2";

TEST(RoutingRules, ADecoderDoesNotLookAtLaterTokensUnlessAskedTo) {
  for (const char* field : {"model.moe.router=EXPERT_CHOICE", "model.moe.router=SOFT", "model.moe.order=BATCH_PRIORITISED"}) {
    EXPECT_THAT(refusal({field}), AllOf(HasSubstr("lets a decoder use what it does not have when it generates"), HasSubstr("model.moe.allow_acausal")));
    accept({field, "model.moe.allow_acausal=true"});
    accept({field, kClassifier, kClasses});
  }
}

TEST(RoutingRules, ATokenHasNoMoreChoicesThanThereAreExperts) {
  EXPECT_THAT(refusal({"model.moe.top_k=5"}), AllOf(StartsWith("model.moe.top_k is 5 but"), HasSubstr("4 experts")));
  accept({"model.moe.top_k=4"});
  EXPECT_THAT(refusal({"model.moe.experts=1", "model.moe.top_k=2"}), HasSubstr("there are 1 experts"));
}

TEST(RoutingRules, SeveralChoicesBelongToRoutersInWhichTokensChoose) {
  for (const char* router : {"EXPERT_CHOICE", "HASH", "SOFT"}) {
    EXPECT_THAT(refusal({std::string("model.moe.router=") + router, "model.moe.top_k=2", "model.moe.allow_acausal=true"}),
                AllOf(StartsWith("model.moe.top_k is 2 but"), HasSubstr(router)));
  }
  EXPECT_THAT(refusal({"model.moe.router=NO_TOKEN_LEFT_BEHIND"}), AllOf(StartsWith("model.moe.top_k is 1 but"), HasSubstr("at least 2")));
  accept({"model.moe.router=NO_TOKEN_LEFT_BEHIND", "model.moe.top_k=4"});
}

TEST(RoutingRules, ARandomSecondExpertNeedsASecondExpertAndItsGate) {
  const char* random = "model.moe.second_policy=RANDOM";
  EXPECT_THAT(refusal({random}), AllOf(StartsWith("model.moe.second_policy is RANDOM but"), HasSubstr("top_k 2")));
  EXPECT_THAT(refusal({random, "model.moe.top_k=3"}), HasSubstr("top_k 2"));
  EXPECT_THAT(refusal({random, "model.moe.top_k=2", "model.moe.router=NO_TOKEN_LEFT_BEHIND"}), HasSubstr("router TOP_K"));
  EXPECT_THAT(refusal({random, "model.moe.top_k=2", "model.moe.gate=MASK_ONLY"}), HasSubstr("no gate to draw by"));
  accept({random, "model.moe.top_k=2", "model.moe.gate=RENORMALISED"});
}

TEST(RoutingRules, WhatARouterDoesNotReadIsRefusedWhereItIsSet) {
  struct Rule {
    const char* router;
    const char* setting;
    const char* says;
  };
  for (const Rule& rule :
       {Rule{"HASH", "model.moe.jitter=0.1", "no choices to explore"}, Rule{"SOFT", "model.moe.jitter=0.1", "no choices to explore"},
        Rule{"HASH", "model.moe.exploration=SAMPLE", "no choices to explore"}, Rule{"HASH", "model.moe.z_loss=0.1", "no router logits"},
        Rule{"SOFT", "model.moe.z_loss=0.1", "no router logits"}, Rule{"HASH", "model.moe.router_bf16=true", "no router product"},
        Rule{"HASH", "model.moe.gate=PROBABILITY", "MASK_ONLY"}, Rule{"SOFT", "model.moe.gate=MASK_ONLY", "its own softmax"},
        Rule{"HASH", "model.moe.balance_loss=0.1", "balanced as it is"}, Rule{"EXPERT_CHOICE", "model.moe.balance_loss=0.1", "balanced as it is"},
        Rule{"SOFT", "model.moe.balance_loss=0.1", "balanced as it is"}, Rule{"HASH", "model.moe.balance_scope=GLOBAL", "no balance loss"},
        Rule{"EXPERT_CHOICE", "model.moe.bias_rate=0.1", "no choices of tokens"}, Rule{"EXPERT_CHOICE", "model.moe.order=BATCH_PRIORITISED", "no gates"},
        Rule{"HASH", "model.moe.order=BATCH_PRIORITISED", "no gates"}, Rule{"EXPERT_CHOICE", "model.moe.exploration=SAMPLE", "draws no expert"}}) {
    const std::string router = std::string("model.moe.router=") + rule.router;
    const std::string field = std::string(rule.setting).substr(0, std::string(rule.setting).find('='));
    EXPECT_THAT(refusal({router, rule.setting, "model.moe.allow_acausal=true"}),
                AllOf(StartsWith(field + " is "), HasSubstr(rule.router), HasSubstr(rule.says)));
    accept({router, "model.moe.allow_acausal=true"});
  }
  EXPECT_THAT(refusal({"model.moe.router=NO_TOKEN_LEFT_BEHIND", "model.moe.top_k=2", "model.moe.gate=RENORMALISED"}), HasSubstr("nothing to renormalise"));
  EXPECT_THAT(refusal({"model.moe.exploration=SAMPLE", "model.moe.bias_rate=0.1"}), StartsWith("model.moe.bias_rate is 0.1 but"));
}

TEST(RoutingRules, ChoicesOfAMicroBatchCanBeNumbered) {
  EXPECT_THAT(refusal({"model.moe.router=EXPERT_CHOICE", "model.moe.allow_acausal=true", "model.moe.experts=16384", "train.sequences=524288"}),
              AllOf(StartsWith("model.moe.experts is 16384 but"), HasSubstr("choices")));
  accept({"model.moe.experts=1024", "model.moe.top_k=64", "train.sequences=524288"});
}

}  // namespace
}  // namespace switchyard
