#include "src/base/error.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

// Launchers and scripts read these numbers.
TEST(ExitCode, IsWhatIsDocumented) {
  EXPECT_EQ(static_cast<int>(ExitCode::kOk), 0);
  EXPECT_EQ(static_cast<int>(ExitCode::kFailure), 1);
  EXPECT_EQ(static_cast<int>(ExitCode::kUsage), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::kData), 65);
  EXPECT_EQ(static_cast<int>(ExitCode::kInputOutput), 74);
  EXPECT_EQ(static_cast<int>(ExitCode::kPreempted), 75);
  EXPECT_EQ(static_cast<int>(ExitCode::kHang), 86);
  EXPECT_EQ(static_cast<int>(ExitCode::kDoNotRestart), 93);
}

TEST(Error, CarriesItsSentenceAndItsCode) {
  const Error error(ExitCode::kData, "expected a token file, found a picture; make one with tokenize");
  EXPECT_EQ(error.code(), ExitCode::kData);
  EXPECT_STREQ(error.what(), "expected a token file, found a picture; make one with tokenize");
}

TEST(Check, ThrowsTheSentenceOnlyWhereThePromiseIsBroken) {
  EXPECT_NO_THROW(check(true, "never"));
  try {
    check(false, "rows do not match");
    FAIL() << "a broken promise went unnoticed";
  } catch (const InternalError& error) {
    EXPECT_EQ(error.code(), ExitCode::kFailure);
    EXPECT_STREQ(error.what(), "rows do not match");
  }
}

}  // namespace
}  // namespace switchyard
