#include "src/moe/exchange.h"

#include <gtest/gtest.h>

#include <cstring>
#include <mutex>

#include "src/base/checked.h"
#include "src/moe/router.h"
#include "tests/moe/moe_world.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

constexpr int64_t kWidth = 3;
constexpr int kLayer = 2;

// A route in which token t of rank r chose choice(r, t); none where that is -1.
using Choice = std::function<int(int rank, int64_t t)>;

// One rank's side of an exchange, with memory.
struct Side {
  Side(Communicator& comm, int experts, int64_t tokens, const Choice& choice, int chunks = 1, int replicas = 1)
      : grid(comm.rank(), comm.size(), comm.size(), replicas),
        backend(make_reference_backend()),
        ctx{*backend, saved, scratch, kPrecisionF64, trace, Key(), true, nullptr},
        exchange(comm, grid, kLayer, experts, chunks) {
    ctx.key.lane = comm.rank();
    route.shape = {tokens, experts, std::max<int64_t>(tokens, 1)};
    route.expert = ctx.keep(Dtype::kI32, {tokens, 1});
    fill(route.expert, [&](int64_t t, int64_t) { return choice(comm.rank(), t); });
    route.position = ctx.keep(Dtype::kI32, {tokens, 1});
    route.token = ctx.keep(Dtype::kI32, {tokens});
    route.source = route.token;
    route.requested = ctx.keep(Dtype::kI32, {route.shape.groups(), experts});
    route.kept = ctx.keep(Dtype::kI32, {experts});
    const Tensor slot = ctx.keep(Dtype::kI32, {tokens});
    backend->assign_slots(Out(route.requested), Out(route.kept), Out(slot), Out(route.position.reshape({tokens})), Out(route.token),
                          route.expert.reshape({tokens}), route.shape, {tokens});
    route.listed.resize(static_cast<size_t>(experts));
    backend->copy_to_host(route.kept, route.listed.data());
    for (const int32_t kept : route.listed) route.entries += kept;
    // What was in the memory before must not show.
    fill(ctx.keep(Dtype::kF64, {4000}), [](int64_t, int64_t) { return 1e9; });
    fill(ctx.temporary(Dtype::kF64, {4000}), [](int64_t, int64_t) { return 1e9; });
  }

  Tensor matrix(int64_t rows, const std::string& what) {
    const Tensor x = ctx.keep(Dtype::kF64, {rows, kWidth});
    // Small integers: sums of products are exact, whatever their order.
    fill(x, [&](int64_t r, int64_t d) { return std::floor(8 * noise(what + place_of(grid.rank(), 0), r * kWidth + d)); });
    return x;
  }
  Tensor random_rows(const std::string& what) {
    const Tensor rows = ctx.keep(Dtype::kF64, {table.rows, kWidth});
    fill(rows, [&](int64_t, int64_t) { return 0; });
    for (int copy = 0; copy < table.copies; ++copy) {
      for (int lane = 0; lane < table.lanes; ++lane) {
        const size_t block = table.block(copy, lane);
        const Tensor part = rows.slice_rows(table.offset[block], table.count[block]);
        fill(part, [&](int64_t r, int64_t d) { return std::floor(8 * noise(what + place_of(table.expert(copy), lane), r * kWidth + d)); });
      }
    }
    return rows;
  }

  // The four ways of rows, each whole: chunk by chunk, but nothing is computed meanwhile.
  Trip dispatch(const Tensor& x) {
    exchange.count(ctx, route, table);
    Trip trip = exchange.forward_trip(ctx, table, kWidth);
    to_hosts(trip, [&](const Chunk& chunk, const Tensor& outbox) { pack_rows(ctx, x, route, chunk, outbox); });
    return trip;
  }
  Tensor combine(Trip& trip, const Tensor& processed) {
    home(trip, processed);
    return trip.returned();
  }
  Trip combine_backward(const Tensor& dreturned) {
    Trip trip = exchange.backward_trip(ctx, table, kWidth);
    to_hosts(trip, [&](const Chunk& chunk, const Tensor& outbox) {
      for (const Segment& run : chunk.home) copy_rows(dreturned, outbox, run.first_row, run.rows);
    });
    return trip;
  }
  void dispatch_backward(Trip& trip, const Tensor& darrived, Target dx) {
    home(trip, darrived);
    unpack_rows(ctx, trip.returned(), route, dx);
  }

  template <class Pack>
  void to_hosts(Trip& trip, Pack pack) {
    for (size_t i = 0; i < table.chunks.size(); ++i) {
      const Tensor outbox = trip.outbox_to_hosts();
      fill(outbox, [](int64_t, int64_t) { return 1e9; });  // of a chunk, only its rows may be sent
      pack(table.chunks[i], outbox);
      trip.send_to_hosts(i, outbox);
      if (i > 0) trip.arrive(i - 1);
    }
    trip.arrive(table.chunks.size() - 1);
  }
  void home(Trip& trip, const Tensor& rows) {
    for (size_t i = 0; i < table.chunks.size(); ++i) {
      const Tensor outbox = trip.outbox_home();
      fill(outbox, [](int64_t, int64_t) { return 1e9; });
      for (const Piece& piece : table.chunks[i].pieces) copy_rows(rows, outbox, piece.first_row, piece.rows);
      trip.send_home(i, outbox);
    }
    trip.finish();
  }
  static void copy_rows(const Tensor& from, const Tensor& to, int64_t first, int64_t rows) {
    const Tensor part = from.slice_rows(first, rows);
    std::memcpy(to.slice_rows(first, rows).data(), part.data(), static_cast<size_t>(part.bytes()));
  }

  Arena saved{"saved"}, scratch{"scratch"};
  Trace trace;
  Grid grid;
  std::unique_ptr<Backend> backend;
  Context ctx;
  Exchange exchange;
  Route route;
  RowTable table;
};

double dot(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = to_doubles(a), y = to_doubles(b);
  EXPECT_EQ(x.size(), y.size());
  double total = 0;
  for (size_t i = 0; i < x.size(); ++i) total += x[i] * y[i];
  return total;
}

// The worlds that every promise is tested in.
struct World {
  const char* name;
  int ranks, experts;
  int64_t tokens;
  Choice choice;
  int chunks = 1;
  int replicas = 1;
};
const std::vector<World>& worlds() {
  static const std::vector<World> all{
      {"Alone", 1, 4, 20, [](int, int64_t t) { return static_cast<int>(t * 7 % 5) - 1; }},
      {"SixExpertsOnFourRanks", 4, 6, 40, [](int rank, int64_t t) { return static_cast<int>((t * t + 3 * rank) % 7) - 1; }},
      {"TwoExpertsOnFourRanks", 4, 2, 33, [](int rank, int64_t t) { return static_cast<int>(t + rank) % 2; }},
      {"AllToTheLastExpert", 3, 5, 17, [](int, int64_t) { return 4; }},
      {"NobodyChoosesAnything", 3, 4, 9, [](int, int64_t) { return -1; }},
      {"OnlyOneLaneHasTokens", 4, 4, 21, [](int rank, int64_t t) { return rank == 2 ? static_cast<int>(t % 4) : -1; }},
      {"NoTokens", 3, 4, 0, [](int, int64_t) { return -1; }},
      {"InTwoChunks", 4, 6, 40, [](int rank, int64_t t) { return static_cast<int>((t * t + 3 * rank) % 7) - 1; }, 2},
      {"InMoreChunksThanExperts", 3, 2, 900, [](int rank, int64_t t) { return static_cast<int>(t * (rank + 1) % 7) % 3 - 1; }, 5},
      {"ChunksOfOneExpertAlone", 1, 1, 1100, [](int, int64_t) { return 0; }, 3},
      {"ChunksWithoutTokens", 3, 4, 0, [](int, int64_t) { return -1; }, 4},
      {"TwoReplicasOnFourRanks", 4, 6, 40, [](int rank, int64_t t) { return static_cast<int>((t * t + 3 * rank) % 7) - 1; }, 1, 2},
      {"TwoReplicasOnThreeRanksInChunks", 3, 5, 900, [](int rank, int64_t t) { return static_cast<int>(t * (rank + 1) % 6) - 1; }, 3, 2},
      {"ThreeReplicasOfOneExpertOnFiveRanks", 5, 1, 30, [](int rank, int64_t t) { return static_cast<int>(t + rank) % 2 - 1; }, 1, 3},
      {"MoreRanksThanReplicasOfAllExperts", 8, 2, 21, [](int rank, int64_t t) { return static_cast<int>(t + rank) % 2; }, 1, 3},
      {"AllReplicasAtHome", 3, 4, 25, [](int rank, int64_t t) { return static_cast<int>(t * 3 + rank) % 4; }, 2, 3},
  };
  return all;
}
class ExchangeWorld : public testing::TestWithParam<World> {};

TEST_P(ExchangeWorld, EveryRowArrivesAtItsExpertInSlotOrderAndTheRestIsZero) {
  const World& world = GetParam();
  run_ranks(world.ranks, [&](Communicator& comm) {
    Side side(comm, world.experts, world.tokens, world.choice, world.chunks, world.replicas);
    const Tensor x = side.ctx.keep(Dtype::kF64, {world.tokens, kWidth});
    fill(x, [&](int64_t t, int64_t) { return static_cast<double>(1000 * (comm.rank() + 1) + t); });
    const Rows rows = side.dispatch(x).rows();
    const RowTable& table = side.table;
    EXPECT_EQ(table.copies, side.grid.hosted(kLayer, comm.rank(), world.experts).count);
    std::vector<double> expected(static_cast<size_t>(table.rows), 0.0);
    for (int copy = 0; copy < table.copies; ++copy) {
      for (int lane = 0; lane < table.lanes; ++lane) {
        const int64_t offset = table.offset[table.block(copy, lane)];
        const bool feeds = lane % world.replicas == table.replica(copy);
        EXPECT_EQ(offset % kRowMultiple, 0);
        int64_t slot = 0;
        for (int64_t t = 0; t < world.tokens; ++t) {
          if (!feeds || world.choice(lane, t) != table.expert(copy)) continue;
          expected[static_cast<size_t>(offset + slot++)] = static_cast<double>(1000 * (lane + 1) + t);
        }
        EXPECT_EQ(table.count[table.block(copy, lane)], slot);
      }
    }
    ASSERT_EQ(rows.buffer.rows(), table.rows);
    for (int64_t r = 0; r < table.rows; ++r) {
      for (int64_t d = 0; d < kWidth; ++d) EXPECT_EQ(rows.buffer.row<double>(r)[d], expected[static_cast<size_t>(r)]) << "row " << r;
    }
  });
}

TEST_P(ExchangeWorld, CombineBringsBackWhatDispatchTookAway) {
  const World& world = GetParam();
  run_ranks(world.ranks, [&](Communicator& comm) {
    Side side(comm, world.experts, world.tokens, world.choice, world.chunks, world.replicas);
    const Tensor x = side.matrix(world.tokens, "x");
    Trip trip = side.dispatch(x);
    const Tensor returned = side.combine(trip, trip.rows().buffer);
    ASSERT_EQ(returned.rows(), side.route.entries);
    for (int64_t i = 0; i < returned.rows(); ++i) {
      const int32_t token = side.route.token.get<int32_t>()[i];
      for (int64_t d = 0; d < kWidth; ++d) EXPECT_EQ(returned.row<double>(i)[d], x.row<double>(token)[d]) << "entry " << i;
    }
  });
}

TEST_P(ExchangeWorld, TheBackwardsAreTheAdjoints) {
  const World& world = GetParam();
  std::mutex mutex;
  double dispatch_gap = 0, combine_gap = 0;  // summed over ranks; integers, so exact
  run_ranks(world.ranks, [&](Communicator& comm) {
    Side side(comm, world.experts, world.tokens, world.choice, world.chunks, world.replicas);
    Context& ctx = side.ctx;
    const Tensor x = side.matrix(world.tokens, "x");
    Trip there = side.dispatch(x);
    const Tensor r = side.random_rows("r"), h = side.matrix(side.route.entries, "h");
    Trip back = side.combine_backward(h);
    const Tensor dx = ctx.keep(Dtype::kF64, {world.tokens, kWidth});
    fill(dx, [](int64_t, int64_t) { return 5; });
    side.dispatch_backward(back, r, Out(dx));
    const double of_dispatch = dot(there.rows().buffer, r) - dot(x, dx);
    const double of_combine = dot(side.combine(there, r), h) - dot(r, back.rows().buffer);

    const std::lock_guard<std::mutex> lock(mutex);
    dispatch_gap += of_dispatch;
    combine_gap += of_combine;
  });
  EXPECT_EQ(dispatch_gap, 0) << "<dispatch x, r> and <x, dispatch_backward r> differ";
  EXPECT_EQ(combine_gap, 0) << "<combine r, h> and <r, combine_backward h> differ";
}

TEST_P(ExchangeWorld, DispatchBackwardAddsWhereAsked) {
  const World& world = GetParam();
  run_ranks(world.ranks, [&](Communicator& comm) {
    Side side(comm, world.experts, world.tokens, world.choice, world.chunks, world.replicas);
    const Tensor x = side.matrix(world.tokens, "x");
    side.dispatch(x);
    const Tensor darrived = side.ctx.keep(Dtype::kF64, {side.table.rows, kWidth});
    fill(darrived, [](int64_t, int64_t) { return 2; });
    const auto back = [&](auto target) {
      Trip trip = side.combine_backward(side.matrix(side.route.entries, "h"));
      side.dispatch_backward(trip, darrived, target);
    };
    const Tensor dx = side.ctx.keep(Dtype::kF64, {world.tokens, kWidth});
    back(Out(dx));
    back(Accumulate(dx));
    for (int64_t t = 0; t < world.tokens; ++t) EXPECT_EQ(dx.row<double>(t)[0], side.route.expert.get<int32_t>()[t] < 0 ? 0 : 4) << "token " << t;
  });
}

INSTANTIATE_TEST_SUITE_P(All, ExchangeWorld, testing::ValuesIn(worlds()), [](const auto& tested) { return std::string(tested.param.name); });

TEST(ExchangeBytes, AreEnoughForTheWorstRouteAndNotMoreThanItNeeds) {
  // All tokens of all lanes to expert 0 of rank 0, nothing dropped; rank 0 returns them all.
  MoeOptions options{.experts = 4, .eval_capacity_factor = 0};
  constexpr int kRanks = 2;
  constexpr int64_t kTokens = 50;
  const int64_t bytes = exchange_bytes(options, 1, kTokens, kWidth, Grid(0, kRanks, kRanks), Dtype::kF64);
  const int64_t needed = kRanks * round_up(kTokens, kRowMultiple) * kWidth * 8;
  EXPECT_GE(bytes, needed);
  EXPECT_LE(bytes, needed + kRanks * 2 * kRowMultiple * kWidth * 8) << "beyond the tokens only the padding of two hosted experts is due";
  RankOptions rank_options;
  rank_options.sizes = {bytes, 64};
  run_ranks(
      kRanks,
      [&](Communicator& comm) {
        Side side(comm, options.experts, kTokens, [](int, int64_t) { return 0; });
        Trip trip = side.dispatch(side.matrix(kTokens, "x"));
        EXPECT_EQ(side.combine(trip, trip.rows().buffer).rows(), kTokens);
      },
      rank_options);
}

TEST(ExchangeBytes, AreBoundedByCapacityWhereTokensAreDropped) {
  MoeOptions options{.experts = 8, .capacity_factor = 1.0, .eval_capacity_factor = 1.0};
  // 1,024 tokens: 128 slots an expert. One of 4 ranks hosts 2 experts and sees 4 lanes.
  EXPECT_EQ(exchange_bytes(options, 4, 256, 16, Grid(0, 4, 4), Dtype::kBF16), 4 * 2 * 128 * 16 * 2);
  options.group_tokens = 256;  // 4 groups of 32 slots: the same
  EXPECT_EQ(exchange_bytes(options, 4, 256, 16, Grid(0, 4, 4), Dtype::kBF16), 4 * 2 * 128 * 16 * 2);
}

TEST(ExchangeBytes, AreThoseOfTheLanesThatFeedARanksReplicas) {
  const MoeOptions options{.experts = 8, .capacity_factor = 1.0, .eval_capacity_factor = 1.0};
  // 128 slots an expert. Of 2 replicas one of 4 ranks hosts 4 copies of one, which 2 of the 4 lanes feed.
  EXPECT_EQ(exchange_bytes(options, 4, 256, 16, Grid(0, 4, 4, 2), Dtype::kBF16), 2 * 4 * 128 * 16 * 2);
  // All of one replica, which only this rank's lane feeds.
  EXPECT_EQ(exchange_bytes(options, 4, 256, 16, Grid(0, 4, 4, 4), Dtype::kBF16), 8 * 128 * 16 * 2);
  // One rank hosts all replicas, but one lane at a time feeds one of them.
  EXPECT_EQ(exchange_bytes(options, 4, 256, 16, Grid(0, 1, 4, 4), Dtype::kBF16), 8 * 128 * 16 * 2);
}

TEST(ExchangeBytes, AreThoseOfAllSlotsInSoftMoe) {
  const MoeOptions options{.experts = 8, .router = RouterKind::kSoft, .soft_slots = 5};
  // An expert has 20 rows from each of 4 lanes, which take the place of 32; of 8 experts a rank hosts 2.
  EXPECT_EQ(exchange_bytes(options, 4, 256, 16, Grid(0, 4, 4), Dtype::kBF16), 4 * 2 * 32 * 16 * 2);
}

TEST(Exchange, ThrowsWhereCommunicatorAndGridDiffer) {
  run_ranks(2, [](Communicator& comm) {
    const Grid other(0, 1, 1);
    EXPECT_THROW(Exchange(comm, other, 0, 4, 1), InternalError);
  });
}

}  // namespace
}  // namespace switchyard
