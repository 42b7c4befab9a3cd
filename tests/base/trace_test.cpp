#include "src/base/trace.h"

#include <gtest/gtest.h>

#include <string>

namespace switchyard {
namespace {

TEST(Trace, SumsSecondsAndBytesByKind) {
  Trace trace;
  {
    Span span(trace, SpanKind::kAllToAll, "dispatch", 3);
    span.add_bytes(100);
    span.add_bytes(20);
  }
  {
    Span span(trace, SpanKind::kAllToAll, "combine", 3);
    span.add_bytes(7);
  }
  { const Span span(trace, SpanKind::kCompute, "experts"); }
  EXPECT_EQ(trace.bytes(SpanKind::kAllToAll), 127);
  EXPECT_EQ(trace.bytes(SpanKind::kCompute), 0);
  EXPECT_GE(trace.seconds(SpanKind::kAllToAll), 0);
  EXPECT_EQ(trace.seconds(SpanKind::kFile), 0);
}

TEST(Trace, TotalsAreTheSumOfTheRecordedSpans) {
  Trace trace;
  trace.record(10);
  for (int i = 0; i < 3; ++i) const Span span(trace, SpanKind::kInput, "batch");
  double seconds = 0;
  for (const TraceEvent& event : trace.events()) seconds += static_cast<double>(event.duration_ns) * 1e-9;
  EXPECT_EQ(trace.events().size(), 3u);
  EXPECT_DOUBLE_EQ(trace.seconds(SpanKind::kInput), seconds);
}

TEST(Trace, ClearForgetsTotalsAndKeepsEvents) {
  Trace trace;
  trace.record(10);
  {
    Span span(trace, SpanKind::kPublish, "publish");
    span.add_bytes(5);
  }
  trace.clear();
  EXPECT_EQ(trace.bytes(SpanKind::kPublish), 0);
  EXPECT_EQ(trace.seconds(SpanKind::kPublish), 0);
  EXPECT_EQ(trace.events().size(), 1u);
}

TEST(Trace, KeepsNoEventsUnlessAsked) {
  Trace trace;
  { const Span span(trace, SpanKind::kCompute, "norm"); }
  EXPECT_TRUE(trace.events().empty());
  EXPECT_EQ(trace.dropped_events(), 0);
}

TEST(Trace, CountsTheEventsThatItHadNoRoomFor) {
  Trace trace;
  trace.record(2);
  for (int i = 0; i < 5; ++i) const Span span(trace, SpanKind::kCompute, "norm");
  EXPECT_EQ(trace.events().size(), 2u);
  EXPECT_EQ(trace.dropped_events(), 3);
}

TEST(Trace, NestedSpansLieInsideOneAnother) {
  Trace trace;
  trace.record(10);
  {
    const Span outer(trace, SpanKind::kCompute, "moe", 1);
    const Span inner(trace, SpanKind::kAllToAll, "dispatch", 1);
  }
  ASSERT_EQ(trace.events().size(), 2u);
  const TraceEvent& inner = trace.events()[0];
  const TraceEvent& outer = trace.events()[1];
  EXPECT_STREQ(inner.name, "dispatch") << "a span is recorded when it closes";
  EXPECT_EQ(outer.layer, 1);
  EXPECT_LE(outer.begin_ns, inner.begin_ns);
  EXPECT_GE(outer.begin_ns + outer.duration_ns, inner.begin_ns + inner.duration_ns);
}

TEST(SpanKind, EveryKindHasItsName) {
  EXPECT_STREQ(name(SpanKind::kCompute), "compute");
  EXPECT_STREQ(name(SpanKind::kAllToAll), "all_to_all");
  EXPECT_STREQ(name(SpanKind::kGradientSum), "gradient_sum");
  EXPECT_STREQ(name(SpanKind::kFile), "file");
}

}  // namespace
}  // namespace switchyard
