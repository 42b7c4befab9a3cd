#include "src/report/trace_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "tests/report/report_helper.h"

namespace switchyard {
namespace {

TEST(TraceJson, ARankIsAProcessAndASpanACompleteEvent) {
  Scratch scratch;
  const TraceEvent dispatch{"dis\"patch", SpanKind::kAllToAll, 3, 1500, 2500, 64}, step{"step", SpanKind::kCompute, -1, 0, 10, 0};
  write_trace(scratch.path("trace.json"), {trace_events(0, std::span(&dispatch, 1), 0), trace_events(5, std::span(&step, 1), 7000), trace_events(6, {}, 0)});
  const nlohmann::json events = nlohmann::json::parse(read_file(scratch.path("trace.json")))["traceEvents"];
  ASSERT_EQ(events.size(), 5u) << "a name for each of three ranks, and two spans";
  EXPECT_EQ(events[0]["ph"], "M");
  EXPECT_EQ(events[0]["args"]["name"], "rank 0");
  EXPECT_EQ(events[1], (nlohmann::json{{"ph", "X"},
                                       {"name", "dis\"patch"},
                                       {"cat", "all_to_all"},
                                       {"pid", 0},
                                       {"tid", 0},
                                       {"ts", 1.5},
                                       {"dur", 2.5},
                                       {"args", {{"layer", 3}, {"bytes", 64}}}}));
  EXPECT_EQ(events[3]["pid"], 5);
  EXPECT_EQ(events[3]["ts"], 7.0) << "the offset is added";
  EXPECT_FALSE(events[3].contains("args"));
}

TEST(TraceJson, WhatCannotBeWrittenIsAnErrorAndLeavesNothing) {
  Scratch scratch;
  std::filesystem::create_directories(scratch.path("trace.json/in-the-way"));
  try {
    write_trace(scratch.path("trace.json"), {trace_events(0, {}, 0)});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInputOutput);
  }
  EXPECT_FALSE(std::filesystem::exists(scratch.path("trace.json.tmp")));
}

}  // namespace
}  // namespace switchyard
