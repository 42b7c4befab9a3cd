// The integer that a capacity factor comes to is shown before anything is started.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/cli/process_helper.h"

namespace switchyard {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(CapacitySummary, TellsTheSlotsOfAnExpert) {
  EXPECT_THAT(run_program({"summary", shipped_config("lm_small")}).out, HasSubstr("320 for 2048 tokens, 2048 in evaluation"));
  const json report =
      json::parse(run_program({"summary", shipped_config("lm_small"), "--json", "--set", "model.moe.preset=HF", "--set", "model.moe.group_tokens=256"}).out);
  EXPECT_EQ(report.at("capacity").at("group_tokens"), 256);
  EXPECT_EQ(report.at("capacity").at("slots"), 40) << "what the file sets stays: 1.25 * 256 / 8";
}

TEST(CapacitySummary, SaysNothingWhereNoSlotsAreCounted) {
  EXPECT_THAT(run_program({"summary", shipped_config("lm_small"), "--set", "model.moe.experts=1"}).out, Not(HasSubstr("slots of an expert")));
}

}  // namespace
}  // namespace switchyard
