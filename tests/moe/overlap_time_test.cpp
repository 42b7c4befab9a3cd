// What chunks are for: on emulated links, with clocks that only the test moves, a trip takes the time of communication.md
// section 6.2.
#include <gtest/gtest.h>

#include <functional>

#include "src/moe/exchange.h"
#include "tests/comm/emulated.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

constexpr int64_t kColumns = 8, kRows = 1024;  // F64; rows from each rank to each
constexpr double kAlpha = 1e-4;                // seconds of a message
constexpr double kWay = 0.064;                 // seconds of kRows without alpha: D, and C

struct Work {
  double experts = 0;    // E: the products of all chunks, seconds
  double meanwhile = 0;  // what is computed before anything has arrived, such as shared experts
  double weights = 0;    // what is computed after the last chunk has left
};

// Seconds of one way there and back on two ranks, each of which hosts `experts` experts with equal rows. Both ranks' are
// the same.
double trip_seconds(int chunks, int experts, const Work& work) {
  double seconds = 0;
  run_ranks(2, [&](Communicator& world) {
    const auto clock = std::make_shared<FakeClock>();
    const Link link{kAlpha, kRows * kColumns * 8 / kWay};
    const std::unique_ptr<Communicator> comm = emulate(world, {link, link}, {0, 0}, clock);
    const auto compute = [&](double time) { clock->compute(static_cast<int64_t>(1e9 * time)); };
    const Grid grid(comm->rank(), 2, 2);
    const auto backend = make_reference_backend();
    Arena saved("saved"), scratch("scratch");
    Trace trace;
    Context ctx{*backend, saved, scratch, kPrecisionF64, trace, Key{.lane = comm->rank()}};
    Route route;
    route.listed.assign(static_cast<size_t>(2 * experts), static_cast<int32_t>(kRows / experts));
    route.entries = 2 * kRows;
    const Exchange exchange(*comm, grid, 0, 2 * experts, chunks);
    RowTable table;
    exchange.count(ctx, route, table);
    comm->barrier({"start", -1});

    const int64_t begin = clock->now_ns();
    Trip trip = exchange.forward_trip(ctx, table, kColumns);
    trip.send_to_hosts(0, trip.outbox_to_hosts());
    compute(work.meanwhile);
    for (size_t i = 0; i < table.chunks.size(); ++i) {
      if (i + 1 < table.chunks.size()) trip.send_to_hosts(i + 1, trip.outbox_to_hosts());
      trip.arrive(i);
      compute(work.experts / chunks / 2);
      const Tensor outbox = trip.outbox_home();
      compute(work.experts / chunks / 2);
      trip.send_home(i, outbox);
    }
    compute(work.weights);
    trip.finish();
    if (comm->rank() == 0) seconds = 1e-9 * static_cast<double>(clock->now_ns() - begin);
  });
  return seconds;
}

TEST(OverlapTime, OneChunkTakesTheSumOfBothWaysAndTheExperts) {
  for (const double experts : {0.0, 0.05, 0.3}) {
    EXPECT_NEAR(trip_seconds(1, 1, {.experts = experts}), 2 * (kWay + kAlpha) + experts, 1e-6);
  }
}

// Of n > 1 chunks, each of which takes `way` there, as long home, and `part` at the experts. Either the experts never wait but
// for the first chunk; or the link rests only while the first chunk is worked on, longer than the second one travels, and
// likewise while the last one is.
double expected_seconds(int chunks, double experts) {
  const double way = kWay / chunks + kAlpha, part = experts / chunks;
  return std::max(2 * way + experts, 2 * chunks * way + 2 * std::max(0.0, part - way));
}

// Seconds below which no order of n chunks comes: without the second of those rests (communication.md 6.2).
double least_seconds(int chunks, double experts) {
  const double way = kWay / chunks + kAlpha, part = experts / chunks;
  return std::max(2 * way + experts, 2 * chunks * way + std::max(0.0, part - way));
}

TEST(OverlapTime, ChunksHideTheShorterOfLinkAndProducts) {
  for (const int experts : {1, 4}) {
    for (const int chunks : {2, 4}) {
      for (const double work : {0.0, 0.02, 0.06, 0.08, 0.1, 0.12, 0.14, 0.3, 1.0}) {
        const double seconds = trip_seconds(chunks, experts, {.experts = work}), expected = expected_seconds(chunks, work);
        EXPECT_NEAR(seconds, expected, 1e-6 + 0.001 * expected) << chunks << " chunks, " << experts << " experts take " << work << " s";
        EXPECT_LE(seconds, 1.1 * least_seconds(chunks, work)) << chunks << " chunks, " << experts << " experts take " << work << " s";
      }
    }
  }
}

TEST(OverlapTime, SharedExpertsAndWeightGradientsHideTheWaysOfOneChunk) {
  const double way = kWay + kAlpha;
  EXPECT_NEAR(trip_seconds(1, 1, {.experts = 0.1, .meanwhile = 0.03, .weights = 0.05}), 2 * way + 0.1, 1e-6) << "both are shorter than a way";
  EXPECT_NEAR(trip_seconds(1, 1, {.experts = 0.1, .meanwhile = 0.3, .weights = 0.2}), 0.3 + 0.1 + 0.2, 1e-6) << "both are longer";
}

}  // namespace
}  // namespace switchyard
