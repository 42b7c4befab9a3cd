// Every rule refuses what breaks it, with field, value and rule, and lets its neighbours pass.
#include "src/config/validate.h"

#include <gmock/gmock.h>

#include <limits>

#include "src/config/fields.h"
#include "src/config/load.h"
#include "tests/config/config_helper.h"

namespace switchyard {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string refusal(const std::vector<std::string>& overrides, int ranks = 1) {
  return error_of(ExitCode::kUsage, [&] { validate(valid_config_with(overrides), ranks); });
}
void accept(const std::vector<std::string>& overrides, int ranks = 1) { EXPECT_NO_THROW(validate(valid_config_with(overrides), ranks)) << overrides.front(); }

TEST(ConfigValidate, ValidOnesPass) {
  EXPECT_NO_THROW(validate(valid_config(), 1));
  EXPECT_NO_THROW(validate(valid_config(), 4));
}

// No number of the schema is without a rule: none takes infinity, NaN, or the largest or a negative number.
TEST(ConfigValidate, EveryNumberOfTheSchemaHasBounds) {
  int numbers = 0;
  visit_fields(Config::default_instance(), [&](const Field& field) {
    if (field.path == "seed" || (!field.is_integer() && !field.is_real())) return;
    ++numbers;
    const bool narrow = field.descriptor->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_INT32;
    const std::string huge = narrow ? "2147483647" : "9223372036854775807";
    for (const std::string& value : field.is_real() ? std::vector<std::string>{"nan", "inf", "-inf", "-1", "1e300"} : std::vector<std::string>{"-1", huge}) {
      EXPECT_THAT(refusal({field.path + "=" + value}), AllOf(StartsWith(field.path + " is "), HasSubstr(" but "))) << value;
    }
  });
  EXPECT_GE(numbers, 40) << "the walk over the schema found too few numbers to be believed";
}

TEST(ConfigValidate, RequiredFieldsAreNamed) {
  for (const char* path : {"model.vocabulary", "model.width", "model.heads", "model.feed_forward", "model.blocks", "model.sequence_length"}) {
    EXPECT_THAT(refusal({std::string(path) + "=0"}), StartsWith(std::string(path) + " is 0 but must be between"));
  }
  EXPECT_THAT(refusal({"data.corpus="}), StartsWith("data.corpus is \"\" but must name"));
}

TEST(ConfigValidate, RatesStayBelowOne) {
  for (const char* path : {"model.dropout", "model.hidden_dropout", "model.moe.expert_dropout", "model.moe.jitter", "optimizer.beta1", "optimizer.beta2"}) {
    EXPECT_THAT(refusal({std::string(path) + "=1"}), HasSubstr(" is 1 but must be at least 0 and below 1"));
    accept({std::string(path) + "=0.999"});
    accept({std::string(path) + "=0"});
  }
  EXPECT_THAT(refusal({"optimizer.epsilon=0"}), HasSubstr("must be greater than 0 and at most 1"));
}

TEST(ConfigValidate, RelativeBucketsNeedDistances) {
  EXPECT_THAT(refusal({"model.relative_buckets=3"}), HasSubstr("model.relative_buckets is 3 but must be between 4 and 256"));
  EXPECT_THAT(refusal({"model.relative_distance=16"}), HasSubstr("model.relative_distance is 16 but must be above half of model.relative_buckets, 32"));
  accept({"model.relative_distance=17"});
  accept({"model.relative_buckets=256", "model.relative_distance=129"});
}

TEST(ConfigValidate, ARelativeBiasHasARoomThatFits) {
  const std::vector<std::string> large = {"model.heads=1", "model.sequence_length=32769", "train.sequences=1", "model.position=RELATIVE_BIAS"};
  EXPECT_THAT(refusal(large), AllOf(StartsWith("model.sequence_length is 32769 but"), HasSubstr("relative bias")));
  accept({"model.heads=1", "model.sequence_length=32768", "train.sequences=1", "model.position=RELATIVE_BIAS"});
  accept({"model.heads=1", "model.sequence_length=32769", "train.sequences=1"});
}

TEST(ConfigValidate, EveryRankNeedsALane) {
  accept({"train.lanes=4"}, 4);
  EXPECT_EQ(refusal({"train.lanes=2"}, 4),
            "train.lanes is 2 but there are 4 ranks, and each needs a lane: raise train.lanes to at least 4, or start fewer ranks");
}

TEST(ConfigValidate, HeadsDivideTheWidthOrHaveTheirOwn) {
  EXPECT_THAT(refusal({"model.heads=3"}), StartsWith("model.heads is 3 but must divide model.width, 16"));
  accept({"model.heads=3", "model.head_width=5"});
  EXPECT_THAT(refusal({"model.heads=1024", "model.head_width=65"}), HasSubstr("at most 65536"));
}

TEST(ConfigValidate, SomeBlockHasTheExperts) {
  EXPECT_THAT(refusal({"model.moe.every=3"}), StartsWith("model.moe.every is 3 but model.blocks is 2"));
  accept({"model.moe.every=3", "model.moe.experts=1"});
  accept({"model.moe.every=1"});
}

TEST(ConfigValidate, SlotsOfSoftMoeAreBounded) {
  const std::vector<std::string> soft = {"model.moe.router=SOFT", "model.moe.allow_acausal=true", "train.sequences=64"};
  std::vector<std::string> many = soft;
  many.push_back("model.moe.soft_slots=16385");  // times 4 experts and 64 sequences
  EXPECT_THAT(refusal(many), AllOf(StartsWith("model.moe.soft_slots is 16385 but"), HasSubstr("more than 4194304 slots")));
  many.back() = "model.moe.soft_slots=16384";
  accept(many);
}

TEST(ConfigValidate, ProductsOfSizesAreBounded) {
  EXPECT_THAT(refusal({"train.sequences=4194304"}), HasSubstr("a micro-batch has 33554432 tokens, and at most 4194304"));
  accept({"train.sequences=524288"});
  EXPECT_THAT(refusal({"model.width=65536", "model.feed_forward=1048576", "model.moe.experts=16384"}), HasSubstr("parameters, and at most"));
  EXPECT_THAT(refusal({"model.width=65536", "model.moe.feed_forward=1048576", "model.moe.experts=16384"}), HasSubstr("parameters, and at most"));
  accept({"model.width=32768", "model.feed_forward=1048576", "model.moe.every=1"});
  EXPECT_THAT(refusal({"model.width=32768", "model.feed_forward=1048576", "model.moe.every=1", "model.moe.shared_experts=64"}),
              HasSubstr("parameters, and at most"));
  EXPECT_THAT(refusal({"model.moe.group_tokens=17"}), HasSubstr("a micro-batch has 16 tokens"));
  accept({"model.moe.group_tokens=16"});
}

TEST(ConfigValidate, EveryReplicaOfAnExpertNeedsALane) {
  EXPECT_EQ(refusal({"parallel.expert_replicas=0"}), "parallel.expert_replicas is 0 but must be between 1 and 65536");
  EXPECT_THAT(refusal({"train.lanes=3", "parallel.expert_replicas=4"}), StartsWith("parallel.expert_replicas is 4 but must be at most train.lanes, 3,"));
  accept({"train.lanes=3", "parallel.expert_replicas=3"});
}

TEST(ConfigValidate, BlocksOfFixedSizeNeedACapacityAndPlainRouting) {
  accept({"parallel.fixed_blocks=true"});
  EXPECT_THAT(refusal({"parallel.fixed_blocks=true", "model.moe.capacity_factor=0"}),
              AllOf(StartsWith("parallel.fixed_blocks is true but"), HasSubstr("a model.moe.capacity_factor above 0")));
  for (const char* other : {"model.moe.top_k=2", "model.moe.gate=MASK_ONLY", "model.moe.exploration=SAMPLE", "model.moe.bias_rate=0.1",
                            "model.moe.balance_scope=GLOBAL", "model.moe.router=NO_TOKEN_LEFT_BEHIND"}) {
    std::vector<std::string> overrides = {"parallel.fixed_blocks=true", other};
    if (std::string(other).find("NO_TOKEN") != std::string::npos) overrides.push_back("model.moe.top_k=2");
    EXPECT_THAT(refusal(overrides), AllOf(StartsWith("parallel.fixed_blocks is true but"), HasSubstr("TOP_K"))) << other;
  }
}

TEST(ConfigValidate, SchedulesThatEndNeedTheirLength) {
  for (const char* schedule : {"LINEAR", "COSINE"}) {
    const std::string choice = std::string("optimizer.schedule=") + schedule;
    EXPECT_THAT(refusal({choice}), AllOf(StartsWith("optimizer.schedule_steps is 0 but"), HasSubstr(schedule)));
    accept({choice, "optimizer.schedule_steps=5"});
    EXPECT_THAT(refusal({choice, "optimizer.schedule_steps=5", "optimizer.warmup_steps=5"}), StartsWith("optimizer.warmup_steps is 5 but must be below"));
    accept({choice, "optimizer.schedule_steps=5", "optimizer.warmup_steps=4"});
  }
  EXPECT_THAT(refusal({"optimizer.schedule=INVERSE_SQUARE_ROOT"}), StartsWith("optimizer.warmup_steps is 0 but"));
  accept({"optimizer.schedule=CONSTANT", "optimizer.warmup_steps=100"});
}

TEST(ConfigValidate, OptionsOfTheOtherOptimizerAreRefused) {
  EXPECT_THAT(refusal({"optimizer.momentum=0.9"}), HasSubstr("it belongs to SGD"));
  accept({"optimizer.momentum=0.9", "optimizer.kind=SGD"});
}

TEST(ConfigValidate, OnlyWhatExistsIsAccepted) {
  EXPECT_EQ(refusal({"parallel.slices=0"}), "parallel.slices is 0 but only 1 exists so far");
  EXPECT_THAT(refusal({"device=REFERENCE", "precision=BF16"}), StartsWith("precision is BF16 but device REFERENCE"));
  accept({"device=REFERENCE", "precision=F32"});
}

TEST(ConfigValidate, AClassifierNeedsClassesAndADecoderHasNone) {
  const std::string classifier = "model.kind=CLASSIFIER", classes = "model.classifier.classes=2";
  EXPECT_THAT(refusal({classifier}), StartsWith("model.classifier.classes is 0 but model.kind CLASSIFIER needs"));
  EXPECT_THAT(refusal({classifier, "model.classifier.classes=1"}), StartsWith("model.classifier.classes is 1 but"));
  accept({classifier, classes});
  accept({classifier, classes, "model.classifier.pool_padding=true", "model.classifier.see_padding=true", "data.pad=FRONT", "data.cut=FRONT"});
  for (const char* field :
       {"model.classifier.classes=2", "model.classifier.pool_padding=true", "model.classifier.see_padding=true", "data.pad=FRONT", "data.cut=FRONT"}) {
    EXPECT_THAT(refusal({field}), HasSubstr("but model.kind DECODER has no classes and sees no padding")) << field;
  }
}

TEST(ConfigValidate, EpochsAreAClassifiersAndPatienceNeedsEvaluations) {
  EXPECT_THAT(refusal({"train.epochs=2"}), StartsWith("train.epochs is 2 but a text for model.kind DECODER has no examples"));
  accept({"train.epochs=2", "model.kind=CLASSIFIER", "model.classifier.classes=2", "train.patience=1", "checkpoint.keep_best=true"});
  for (const char* field : {"train.patience=1", "checkpoint.keep_best=true"}) {
    EXPECT_THAT(refusal({field}), HasSubstr("but nothing is evaluated while training: set eval.every")) << field;
    accept({field, "eval.every=5"});
  }
}

TEST(ConfigValidate, ClassesAreAsManyAsTheLabels) {
  const Config config = valid_config_with({"model.kind=CLASSIFIER", "model.classifier.classes=2"});
  EXPECT_NO_THROW(validate_classes(config, 2));
  EXPECT_THAT(error_of(ExitCode::kUsage, [&] { validate_classes(config, 3); }),
              StartsWith("model.classifier.classes is 2 but the texts of data.corpus have 3 labels"));
}

TEST(ConfigValidate, TextsArePlain) {
  EXPECT_THAT(refusal({"data.corpus=a\nb"}), HasSubstr("control character"));
  EXPECT_THAT(refusal({"data.corpus=" + std::string(4097, 'a')}), HasSubstr("4097 bytes"));
}

TEST(ConfigValidate, VocabularyHoldsTheTokenizers) {
  EXPECT_NO_THROW(validate_vocabulary(valid_config(), 64));
  EXPECT_THAT(error_of(ExitCode::kUsage, [] { validate_vocabulary(valid_config(), 65); }),
              StartsWith("model.vocabulary is 64 but the tokenizer of data.corpus has 65 ids"));
}

}  // namespace
}  // namespace switchyard
