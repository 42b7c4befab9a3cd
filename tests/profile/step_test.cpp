// Timelines made by hand, whose parts are known to the nanosecond; and timelines of thread ranks.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "src/profile/step_report.h"
#include "tests/profile/schema.h"
#include "tests/profile/trace_rules.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

using nlohmann::json;

constexpr double kNs = 1e-9;
constexpr LinkModel kLink{{10e-9, 1e9}, {100e-9, 1e8}};  // 10 ns and 1 ns per byte within a host, ten times as much between hosts

// Two ranks, one step of 1000 ns. Rank 1 comes 50 ns late to the dispatch.
//
//   rank 0: moe [100, 500] holds the dispatch: issue [150, 160], wait [160, 260], and experts [300, 400]
//   rank 1: moe [100, 500] holds the dispatch: issue [200, 210], wait [210, 260], and experts [300, 350]
//   both:   gradient sum issued at [510, 520] within its span [505, 530], awaited at [800, 850] in [800, 900];
//           publish [900, 990], with its all_gather in [910, 960], to which rank 0 comes 10 ns late
std::vector<Timeline> two_ranks() {
  std::vector<Timeline> timelines;
  for (const int rank : {0, 1}) {
    const int64_t late = rank == 1 ? 50 : 0, gather = rank == 0 ? 920 : 910;
    Timeline timeline;
    timeline.rank = rank;
    timeline.steps = {{0, 1000}};
    timeline.spans = {{"dispatch", SpanKind::kAllToAll, 0, {150 + late, 260}},
                      {"experts", SpanKind::kCompute, 0, {300, 400 - late}},
                      {"moe", SpanKind::kCompute, 0, {100, 500}},
                      {"gradient_sum", SpanKind::kGradientSum, -1, {505, 530}},
                      {"gradient_sum_finish", SpanKind::kGradientSum, -1, {800, 900}},
                      {"publish", SpanKind::kPublish, -1, {900, 990}}};
    timeline.calls = {{CallKind::kTransfer, "dispatch", 0, {}, {150 + late, 160 + late}, {160 + late, 260}, {8, 16}},
                      {CallKind::kBucketTransfer, "gradient_sum", -1, {}, {510, 520}, {800, 850}, {0, 100}},
                      {CallKind::kAllGather, "publish", -1, {}, {gather, 960}, {}, {40, 40}}};
    timelines.push_back(timeline);
  }
  return timelines;
}

double part(const StepProfile& profile, const std::string& name, int layer, double StepPart::*which) {
  const StepPart* found = profile.find(name, layer);
  EXPECT_NE(found, nullptr) << name;
  return found == nullptr ? -1 : found->*which / kNs;
}

TEST(StepProfile, EveryMomentBelongsToOnePart) {
  const StepProfile profile = profile_steps(two_ranks(), std::vector<int>{0, 0}, std::nullopt);
  EXPECT_EQ(profile.ranks, 2);
  EXPECT_NEAR(profile.total() / kNs, 1000, 1e-6);
  EXPECT_NEAR(part(profile, "moe", 0, &StepPart::compute), (400 - 110 - 100 + 400 - 60 - 50) / 2.0, 1e-6);
  EXPECT_NEAR(part(profile, "experts", 0, &StepPart::compute), 75, 1e-6);
  EXPECT_NEAR(part(profile, "dispatch", 0, &StepPart::compute), 0, 1e-6);
  EXPECT_NEAR(part(profile, "gradient sum", -1, &StepPart::compute), 15 + 50, 1e-6);
  EXPECT_NEAR(part(profile, "publish", -1, &StepPart::compute), (50 + 40) / 2.0, 1e-6);
  EXPECT_NEAR(part(profile, "rest", -1, &StepPart::compute), 100 + 5 + 270 + 10, 1e-6);
  EXPECT_EQ(profile.parts.back().name, "rest");
}

TEST(StepProfile, WaitingForTheLastRankIsToldFromMovingBytes) {
  const StepProfile profile = profile_steps(two_ranks(), std::vector<int>{0, 0}, std::nullopt);
  // Rank 0 issues at 150 and waits from 160; rank 1 comes at 200.
  EXPECT_NEAR(part(profile, "dispatch", 0, &StepPart::wait), (10 + 40) / 2.0, 1e-6);
  EXPECT_NEAR(part(profile, "dispatch", 0, &StepPart::move), (60 + 60) / 2.0, 1e-6);
  EXPECT_NEAR(part(profile, "publish", -1, &StepPart::wait), 10 / 2.0, 1e-6);
  EXPECT_NEAR(part(profile, "publish", -1, &StepPart::move), 40, 1e-6);
  EXPECT_NEAR(part(profile, "gradient sum", -1, &StepPart::wait), 0, 1e-6);
  EXPECT_NEAR(part(profile, "gradient sum", -1, &StepPart::move), 60, 1e-6);
}

TEST(StepProfile, WhatIsComputedWhileATransferIsUnderWayIsHidden) {
  std::vector<Timeline> timelines = two_ranks();
  EXPECT_NEAR(part(profile_steps(timelines, std::vector<int>{0, 0}, std::nullopt), "gradient sum", -1, &StepPart::hidden), 280, 1e-6);
  EXPECT_NEAR(part(profile_steps(timelines, std::vector<int>{0, 0}, std::nullopt), "dispatch", 0, &StepPart::hidden), 0, 1e-6);
  // Another collective in between is no computing, and two transfers of one part under way at once count once.
  for (Timeline& timeline : timelines) {
    timeline.calls.insert(timeline.calls.begin() + 2, {CallKind::kReduce, "norm", -1, {}, {600, 620}, {}, {0, 0}});
    timeline.calls.insert(timeline.calls.begin() + 2, {CallKind::kBucketTransfer, "gradient_sum", -1, {}, {530, 540}, {860, 870}, {0, 0}});
  }
  const StepProfile profile = profile_steps(timelines, std::vector<int>{0, 0}, std::nullopt);
  EXPECT_NEAR(part(profile, "gradient sum", -1, &StepPart::hidden), 280 - 10 - 20 + 10, 1e-6);
  EXPECT_NEAR(profile.total() / kNs, 1000, 1e-6);
  EXPECT_NEAR(part(profile, "control", -1, &StepPart::move), 20, 1e-6) << "a collective outside of all spans";
}

TEST(StepProfile, CountsBytesOfEveryPairByPurpose) {
  const StepProfile profile = profile_steps(two_ranks(), std::vector<int>{0, 0}, std::nullopt);
  EXPECT_EQ(profile.exchange.bytes, (std::vector<int64_t>{8, 16, 8, 16}));
  EXPECT_EQ(profile.gradient_sum.at(0, 1), 100);
  EXPECT_EQ(profile.publish.at(1, 0), 40);
  EXPECT_EQ(profile.find("dispatch", 0)->bytes, 16 + 8) << "own rows are not sent";
}

TEST(StepProfile, WhatIfTakesTheCostOfTheLinkFile) {
  const StepProfile within = profile_steps(two_ranks(), std::vector<int>{0, 0}, kLink);
  EXPECT_NEAR(part(within, "dispatch", 0, &StepPart::predicted), 10 + 16, 1e-6);
  EXPECT_NEAR(part(within, "gradient sum", -1, &StepPart::predicted), 10 + 100, 1e-6);
  EXPECT_NEAR(within.find("gradient sum")->predicted_exposed(), 0, 1e-15) << "280 ns of it are hidden";
  EXPECT_NEAR(part(within, "publish", -1, &StepPart::predicted), 10 + 40, 1e-6);
  const StepProfile between = profile_steps(two_ranks(), std::vector<int>{0, 1}, kLink);
  EXPECT_NEAR(part(between, "dispatch", 0, &StepPart::predicted), 100 + 160, 1e-6);
  EXPECT_NEAR(between.find("gradient sum")->predicted_exposed() / kNs, 1100 - 280, 1e-6);
  // The step with another dispatch, gradient sum and publish; computing and waiting stay.
  EXPECT_NEAR(predicted_step_seconds(between) / kNs, 1000 - 60 - 60 - 40 + 260 + 820 + 500, 1e-6);
}

TEST(StepProfile, RanksThatDisagreeAreAnError) {
  std::vector<Timeline> timelines = two_ranks();
  timelines[1].calls[0].name = "combine";
  EXPECT_THROW(profile_steps(timelines, std::vector<int>{0, 0}, std::nullopt), InternalError);
}

TEST(StepReport, JsonKeepsItsSchema) {
  StepHead head{"switchyard 0", "a.textproto", "transport SELF", 1, {0, 0}, 3, 1000e-9, 0.01, "", {0, 0}};
  const json plain = json::parse(step_json(head, profile_steps(two_ranks(), head.hosts, std::nullopt)));
  EXPECT_EQ(schema_violation("step.schema.json", plain), "");
  double share = 0;
  for (const json& each : plain["parts"]) share += each["share_pct"].get<double>();
  EXPECT_NEAR(share, 100, 1e-6);
  head.link = "link.json";
  const json what_if = json::parse(step_json(head, profile_steps(two_ranks(), head.hosts, kLink)));
  EXPECT_EQ(schema_violation("step.schema.json", what_if), "");
  EXPECT_TRUE(what_if.contains("what_if"));
}

TEST(StepTrace, KeepsTheRulesOfTheFormat) {
  std::vector<Timeline> timelines = two_ranks();
  for (Timeline& timeline : timelines) {
    timeline.spans.push_back({"combine", SpanKind::kAllToAll, 0, {405, 470}});
    timeline.calls.insert(timeline.calls.begin() + 1, {CallKind::kTransfer, "combine", 0, {406, 410}, {410, 420}, {420, 460}, {8, 8}});
  }
  json events = json::array();
  for (const Timeline& timeline : timelines) {
    for (json& event : json::parse("[" + step_trace(timeline, 7, 0) + "]")) events.push_back(std::move(event));
  }
  const TraceRules rules(events);
  EXPECT_EQ(rules.violation(), "");
  EXPECT_EQ(rules.processes(), 2u);
  EXPECT_EQ(rules.flows("dispatch", "combine"), 2u);
  EXPECT_EQ(rules.slices("step 7"), 2u);
}

// Work on a rank: two layers of dispatch and combine, a bucket, a gather. Rank 1's trace began later than the others'.
void work(Recorder& recorder, Trace& trace) {
  const int ranks = recorder.size();
  std::vector<Segment> send, receive;
  for (int peer = 0; peer < ranks; ++peer) {
    send.push_back({peer, peer, 1});
    receive.push_back({peer, peer, 1});
  }
  std::vector<float> rows(static_cast<size_t>(ranks) * 4), buckets(rows.size());
  const Tensor inbox(rows.data(), Dtype::kF32, {ranks, 4}), bucket_inbox(buckets.data(), Dtype::kF32, {ranks, 4});
  const Tensor bucket = recorder.outbox(OutboxUse::kBucket, Dtype::kF32, ranks, 4);
  const Event sum = recorder.all_to_all({"gradient_sum", -1}, bucket, send, bucket_inbox, receive, Event());
  for (const int layer : {0, 1}) {
    for (const char* name : {"dispatch", "combine"}) {
      const Span span(trace, SpanKind::kAllToAll, name, layer);
      const Tensor outbox = recorder.outbox(OutboxUse::kExchange, Dtype::kF32, ranks, 4);
      recorder.wait(recorder.all_to_all({name, layer}, outbox, send, inbox, receive, Event()));
    }
  }
  recorder.wait(sum);
  const Span span(trace, SpanKind::kPublish, "publish");
  std::vector<int64_t> ones(static_cast<size_t>(ranks), 1);
  recorder.all_gather({"publish", -1}, inbox.slice_rows(0, 1), bucket_inbox, ones);
}

TEST(Timeline, ComesTogetherFromAllRanksUnderOneClock) {
  for (const int ranks : {1, 3}) {
    run_ranks(ranks, [&](Communicator& world) {
      for (int rank = 0; rank < world.rank(); ++rank) world.barrier({"begin", -1});  // traces begin one after another
      Trace trace;
      for (int rank = world.rank(); rank < ranks; ++rank) world.barrier({"begin", -1});
      Recorder recorder(world, trace);
      work(recorder, trace);  // not noted
      trace.record(1000);
      recorder.start(4);
      const int64_t begin = trace.now_ns();
      work(recorder, trace);
      const std::vector<Stay> steps = {{begin, trace.now_ns()}};
      recorder.stop();
      const std::vector<Timeline> all = gather_timelines(world, make_timeline(trace, recorder, steps), clock_offset(world, trace));
      ASSERT_EQ(all.size(), world.rank() == 0 ? static_cast<size_t>(ranks) : 0u);
      if (world.rank() != 0) return;
      json events = json::array();
      int64_t first = all[0].steps[0].begin_ns;
      for (const Timeline& timeline : all) first = std::min(first, timeline.steps[0].begin_ns);
      for (int rank = 0; rank < ranks; ++rank) {
        const Timeline& timeline = all[static_cast<size_t>(rank)];
        EXPECT_EQ(timeline.rank, rank);
        ASSERT_EQ(timeline.calls.size(), 6u);
        EXPECT_EQ(timeline.calls[0].kind, CallKind::kBucketTransfer);
        EXPECT_EQ(timeline.calls[1].kind, CallKind::kTransfer);
        EXPECT_EQ(timeline.calls[1].bytes, std::vector<int64_t>(static_cast<size_t>(ranks), 16));
        EXPECT_EQ(timeline.calls[5].kind, CallKind::kAllGather);
        EXPECT_EQ(timeline.spans.size(), 5u);
        for (const TimelineCall& call : timeline.calls) {
          // Nobody has the rows of a transfer before the last rank came to it: so clocks agree.
          const int64_t over = call.wait.end_ns > 0 ? call.wait.end_ns : call.issue.end_ns;
          for (const Timeline& other : all) {
            const TimelineCall& same = other.calls[static_cast<size_t>(&call - timeline.calls.data())];
            EXPECT_GE(over, same.issue.begin_ns) << call.name << " on rank " << rank << " and " << other.rank;
          }
        }
        for (json& event : json::parse("[" + step_trace(timeline, 0, first) + "]")) events.push_back(std::move(event));
      }
      const TraceRules rules(events);
      EXPECT_EQ(rules.violation(), "");
      EXPECT_EQ(rules.flows("dispatch", "combine"), static_cast<size_t>(2 * ranks));
      const StepProfile profile = profile_steps(all, std::vector<int>(static_cast<size_t>(ranks), 0), std::nullopt);
      EXPECT_NEAR(profile.total(),
                  profile.find("rest")->total() + profile.find("dispatch", 0)->total() + profile.find("dispatch", 1)->total() +
                      profile.find("combine", 0)->total() + profile.find("combine", 1)->total() + profile.find("gradient sum")->total() +
                      profile.find("publish")->total(),
                  1e-9);
      EXPECT_EQ(profile.exchange.at(0, ranks - 1), 4 * 16);
    });
  }
}

TEST(Recorder, ATransferThatNobodyAwaitsHasNoWait) {
  run_ranks(2, [](Communicator& world) {
    Trace trace;
    Recorder recorder(world, trace);
    recorder.start(0);
    std::vector<float> row(2);
    const Segment mine{world.rank(), 0, 1};
    for (int i = 0; i < 3; ++i) {
      const Tensor outbox = recorder.outbox(OutboxUse::kExchange, Dtype::kF32, 1, 2);
      const Event event = recorder.all_to_all({"own", -1}, outbox, {&mine, 1}, Tensor(row.data(), Dtype::kF32, {1, 2}), {&mine, 1}, Event());
      if (i == 2) recorder.wait(event);
      if (i == 2) recorder.wait(event);
    }
    recorder.wait(Event());
    ASSERT_EQ(recorder.calls().size(), 3u);
    EXPECT_EQ(recorder.calls()[0].wait.end_ns, 0);
    EXPECT_GT(recorder.calls()[2].wait.end_ns, 0);
    EXPECT_EQ(recorder.bytes_to(2, world.rank()), 8);
    EXPECT_EQ(recorder.bytes_to(2, 1 - world.rank()), 0);
    EXPECT_GT(recorder.calls()[1].outbox.end_ns, recorder.calls()[1].outbox.begin_ns);
  });
}

}  // namespace
}  // namespace switchyard
