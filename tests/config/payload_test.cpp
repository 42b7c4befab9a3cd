// How rows travel, from the configuration to what a model is made of.
#include <gmock/gmock.h>

#include "src/config/build.h"
#include "src/config/load.h"
#include "src/config/resume.h"
#include "src/config/validate.h"
#include "tests/config/config_helper.h"

namespace switchyard {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

PayloadOptions options_of(const std::vector<std::string>& overrides) {
  const Config config = valid_config_with(overrides);
  validate(config, 1);
  return model_options(resolve_config(config, false)).moe.payload;
}

TEST(PayloadConfig, RowsTravelAsTheyAreUnlessAskedOtherwise) {
  EXPECT_FALSE(options_of({}).any());
  EXPECT_EQ(options_of({}).error_bound, 0.05);
}

TEST(PayloadConfig, EachWayHasItsField) {
  EXPECT_EQ(options_of({"model.moe.payload.dispatch=INT8"}).format[static_cast<size_t>(Way::kDispatch)], PayloadFormat::kInt8);
  EXPECT_EQ(options_of({"model.moe.payload.combine=FP8"}).format[static_cast<size_t>(Way::kCombine)], PayloadFormat::kFp8);
  EXPECT_EQ(options_of({"model.moe.payload.combine_backward=FP8"}).format[static_cast<size_t>(Way::kCombineBackward)], PayloadFormat::kFp8);
  EXPECT_EQ(options_of({"model.moe.payload.dispatch_backward=INT8"}).format[static_cast<size_t>(Way::kDispatchBackward)], PayloadFormat::kInt8);
  EXPECT_EQ(options_of({"model.moe.payload.error_bound=0"}).error_bound, 0);
}

TEST(PayloadConfig, AnUnknownFormatNamesTheKnownOnes) {
  EXPECT_THAT(error_of(ExitCode::kUsage, [] { valid_config_with({"model.moe.payload.dispatch=FP4"}); }), HasSubstr("NONE, INT8 or FP8"));
}

TEST(PayloadConfig, TheBoundIsAFraction) {
  for (const char* bound : {"-0.1", "1.5", "nan"}) {
    EXPECT_THAT(error_of(ExitCode::kUsage, [&] { validate(valid_config_with({std::string("model.moe.payload.error_bound=") + bound}), 1); }),
                AllOf(StartsWith("model.moe.payload.error_bound is "), HasSubstr("must be")));
  }
}

TEST(PayloadConfig, IsPrintedAndARunIsResumedWithItsOwn) {
  const Config stored = resolve_config(valid_config_with({"model.moe.payload.combine=FP8"}), false);
  EXPECT_THAT(print_config(stored), AllOf(HasSubstr("combine: FP8"), HasSubstr("dispatch: NONE"), HasSubstr("error_bound: 0.05")));
  EXPECT_NO_THROW(resume_config(stored, valid_config_with({"model.moe.payload.combine=FP8"})));
  EXPECT_THAT(error_of(ExitCode::kUsage, [&] { resume_config(stored, valid_config_with({"model.moe.payload.combine=INT8"})); }),
              StartsWith("model.moe.payload.combine is INT8 but the run to be resumed has FP8"));
  for (const char* change : {"model.moe.payload.dispatch=FP8", "model.moe.payload.error_bound=0.2"}) {
    EXPECT_THAT(error_of(ExitCode::kUsage,
                         [&] {
                           resume_config(stored, valid_config_with({"model.moe.payload.combine=FP8", change}));
                         }),
                StartsWith("model.moe.payload."));
  }
}

}  // namespace
}  // namespace switchyard
