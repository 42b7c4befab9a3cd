#include "src/optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "src/base/error.h"

namespace switchyard {
namespace {

ScheduleOptions schedule(ScheduleKind kind, double peak, int64_t warmup, int64_t length = 0, double final_fraction = 0.1) {
  return {kind, peak, warmup, length, final_fraction};
}

TEST(Schedule, InverseSquareRootHasTheGoldenValuesOfTheAdafactorSchedule) {
  const ScheduleOptions options = schedule(ScheduleKind::kInverseSquareRoot, 0.01, 10000);
  EXPECT_DOUBLE_EQ(rate(options, 0), 0.01) << "a plateau, not a linear warm-up";
  EXPECT_DOUBLE_EQ(rate(options, 10000), 0.01);
  EXPECT_LT(rate(options, 10001), 0.01);
  EXPECT_DOUBLE_EQ(rate(options, 40000), 0.005);
  EXPECT_NEAR(rate(options, 550000), 0.00135, 5e-6);
  for (int64_t step : {1, 9999, 12345, 550000}) EXPECT_NEAR(rate(options, step), 1 / std::sqrt(std::max<double>(static_cast<double>(step), 10000)), 1e-17);
}

TEST(Schedule, InverseSquareRootWithoutWarmupStartsAtThePeak) {
  const ScheduleOptions options = schedule(ScheduleKind::kInverseSquareRoot, 0.5, 0);
  EXPECT_DOUBLE_EQ(rate(options, 0), 0.5);
  EXPECT_DOUBLE_EQ(rate(options, 1), 0.5);
  EXPECT_DOUBLE_EQ(rate(options, 4), 0.25);
}

TEST(Schedule, WarmupIsLinearAndReachesThePeakInItsLastStep) {
  for (ScheduleKind kind : {ScheduleKind::kConstant, ScheduleKind::kLinear, ScheduleKind::kCosine}) {
    const ScheduleOptions options = schedule(kind, 2, 4, 100);
    EXPECT_DOUBLE_EQ(rate(options, 0), 0.5);
    EXPECT_DOUBLE_EQ(rate(options, 1), 1.0);
    EXPECT_DOUBLE_EQ(rate(options, 2), 1.5);
    EXPECT_DOUBLE_EQ(rate(options, 3), 2.0);
    EXPECT_DOUBLE_EQ(rate(options, 4), 2.0) << "decay begins at the peak";
  }
}

TEST(Schedule, ConstantStaysConstant) { EXPECT_DOUBLE_EQ(rate(schedule(ScheduleKind::kConstant, 0.3, 0), 1000000000), 0.3); }

TEST(Schedule, LinearFallsToItsFinalFractionAndStaysThere) {
  const ScheduleOptions options = schedule(ScheduleKind::kLinear, 1, 10, 110, 0.2);
  EXPECT_DOUBLE_EQ(rate(options, 60), 0.6);
  EXPECT_DOUBLE_EQ(rate(options, 110), 0.2);
  EXPECT_DOUBLE_EQ(rate(options, 5000), 0.2);
}

TEST(Schedule, CosineFallsToItsFinalFractionAndStaysThere) {
  const ScheduleOptions options = schedule(ScheduleKind::kCosine, 1, 0, 100, 0.1);
  EXPECT_DOUBLE_EQ(rate(options, 0), 1);
  EXPECT_NEAR(rate(options, 50), 0.55, 1e-12);
  EXPECT_NEAR(rate(options, 25), 0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2, 1e-12);
  EXPECT_NEAR(rate(options, 100), 0.1, 1e-12);
  EXPECT_NEAR(rate(options, 101), 0.1, 1e-12);
}

TEST(Schedule, LinearAndCosineDemandALength) {
  for (ScheduleKind kind : {ScheduleKind::kLinear, ScheduleKind::kCosine}) {
    try {
      rate(schedule(kind, 1, 10, 10), 0);
      FAIL() << "a schedule no longer than its warm-up was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(error.what()).find("optimizer.schedule_steps is 10"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace switchyard
