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
  Side(Communicator& comm, int experts, int64_t tokens, const Choice& choice)
      : grid(comm.rank(), comm.size(), comm.size()),
        backend(make_reference_backend()),
        ctx{*backend, saved, scratch, kPrecisionF64, trace, Key(), true, nullptr},
        exchange(comm, grid, kLayer, experts) {
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
                          route.expert.reshape({tokens}), route.shape, tokens);
    route.kept_on_host.resize(static_cast<size_t>(experts));
    backend->copy_to_host(route.kept, route.kept_on_host.data());
    for (const int32_t kept : route.kept_on_host) route.entries += kept;
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
  Tensor random_rows(const Rows& rows, const std::string& what) {
    fill(rows.buffer, [&](int64_t, int64_t) { return 0; });
    for (int e = 0; e < table.experts; ++e) {
      for (int lane = 0; lane < table.lanes; ++lane) {
        const size_t block = table.block(e, lane);
        const Tensor part = rows.buffer.slice_rows(table.offset[block], table.count[block]);
        fill(part, [&](int64_t r, int64_t d) { return std::floor(8 * noise(what + place_of(table.first_expert + e, lane), r * kWidth + d)); });
      }
    }
    return rows.buffer;
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
  };
  return all;
}
class ExchangeWorld : public testing::TestWithParam<World> {};

TEST_P(ExchangeWorld, EveryRowArrivesAtItsExpertInSlotOrderAndTheRestIsZero) {
  const World& world = GetParam();
  run_ranks(world.ranks, [&](Communicator& comm) {
    Side side(comm, world.experts, world.tokens, world.choice);
    const Tensor x = side.ctx.keep(Dtype::kF64, {world.tokens, kWidth});
    fill(x, [&](int64_t t, int64_t) { return static_cast<double>(1000 * (comm.rank() + 1) + t); });
    const Rows rows = side.exchange.dispatch(side.ctx, x, side.route, side.table);
    const RowTable& table = side.table;
    EXPECT_EQ(table.experts, side.grid.hosted(kLayer, comm.rank(), world.experts).count);
    std::vector<double> expected(static_cast<size_t>(table.rows), 0.0);
    for (int e = 0; e < table.experts; ++e) {
      for (int lane = 0; lane < table.lanes; ++lane) {
        const int64_t offset = table.offset[table.block(e, lane)];
        EXPECT_EQ(offset % kRowMultiple, 0);
        int64_t slot = 0;
        for (int64_t t = 0; t < world.tokens; ++t) {
          if (world.choice(lane, t) == table.first_expert + e) expected[static_cast<size_t>(offset + slot++)] = static_cast<double>(1000 * (lane + 1) + t);
        }
        EXPECT_EQ(table.count[table.block(e, lane)], slot);
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
    Side side(comm, world.experts, world.tokens, world.choice);
    const Tensor x = side.matrix(world.tokens, "x");
    const Rows arrived = side.exchange.dispatch(side.ctx, x, side.route, side.table);
    const Rows processed = side.exchange.rows_outbox(side.ctx, side.table, kWidth);
    std::memcpy(processed.buffer.data(), arrived.buffer.data(), static_cast<size_t>(arrived.buffer.bytes()));
    const Tensor returned = side.exchange.combine(side.ctx, processed);
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
    Side side(comm, world.experts, world.tokens, world.choice);
    Context& ctx = side.ctx;
    const Tensor x = side.matrix(world.tokens, "x");
    const Rows dispatched = side.exchange.dispatch(ctx, x, side.route, side.table);

    const Tensor r = ctx.keep(Dtype::kF64, {side.table.rows, kWidth});
    const Rows darrived = side.exchange.rows_outbox(ctx, side.table, kWidth);
    std::memcpy(r.data(), side.random_rows(darrived, "r").data(), static_cast<size_t>(r.bytes()));
    const Tensor dx = ctx.keep(Dtype::kF64, {world.tokens, kWidth});
    fill(dx, [](int64_t, int64_t) { return 5; });
    side.exchange.dispatch_backward(ctx, darrived, side.route, Out(dx));
    const double of_dispatch = dot(dispatched.buffer, r) - dot(x, dx);

    const Rows processed = side.exchange.rows_outbox(ctx, side.table, kWidth);
    std::memcpy(processed.buffer.data(), r.data(), static_cast<size_t>(r.bytes()));
    const Tensor returned = side.exchange.combine(ctx, processed);
    const Tensor h = side.matrix(side.route.entries, "h");
    const Tensor dreturned = side.exchange.entries_outbox(ctx, side.table, kWidth);
    std::memcpy(dreturned.data(), h.data(), static_cast<size_t>(h.bytes()));
    const Rows dprocessed = side.exchange.combine_backward(ctx, dreturned, side.table);
    const double of_combine = dot(returned, h) - dot(r, dprocessed.buffer);

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
    Side side(comm, world.experts, world.tokens, world.choice);
    const Tensor x = side.matrix(world.tokens, "x");
    side.exchange.dispatch(side.ctx, x, side.route, side.table);
    const auto back = [&](auto target) {
      const Rows darrived = side.exchange.rows_outbox(side.ctx, side.table, kWidth);
      fill(darrived.buffer, [](int64_t, int64_t) { return 2; });
      side.exchange.dispatch_backward(side.ctx, darrived, side.route, target);
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
  const int64_t bytes = exchange_bytes(options, 1, kTokens, kWidth, kRanks, Dtype::kF64);
  const int64_t needed = kRanks * round_up(kTokens, kRowMultiple) * kWidth * 8;
  EXPECT_GE(bytes, needed);
  EXPECT_LE(bytes, needed + kRanks * 2 * kRowMultiple * kWidth * 8) << "beyond the tokens only the padding of two hosted experts is due";
  RankOptions rank_options;
  rank_options.sizes = {bytes, 64};
  run_ranks(
      kRanks,
      [&](Communicator& comm) {
        Side side(comm, options.experts, kTokens, [](int, int64_t) { return 0; });
        side.exchange.dispatch(side.ctx, side.matrix(kTokens, "x"), side.route, side.table);
        const Rows processed = side.exchange.rows_outbox(side.ctx, side.table, kWidth);
        fill(processed.buffer, [](int64_t, int64_t) { return 1; });
        EXPECT_EQ(side.exchange.combine(side.ctx, processed).rows(), kTokens);
      },
      rank_options);
}

TEST(ExchangeBytes, AreBoundedByCapacityWhereTokensAreDropped) {
  MoeOptions options{.experts = 8, .capacity_factor = 1.0, .eval_capacity_factor = 1.0};
  // 1,024 tokens: 128 slots an expert. One of 4 ranks hosts 2 experts and sees 4 lanes.
  EXPECT_EQ(exchange_bytes(options, 4, 256, 16, 4, Dtype::kBF16), 4 * 2 * 128 * 16 * 2);
  options.group_tokens = 256;  // 4 groups of 32 slots: the same
  EXPECT_EQ(exchange_bytes(options, 4, 256, 16, 4, Dtype::kBF16), 4 * 2 * 128 * 16 * 2);
}

TEST(ExchangeBytes, AreThoseOfAllSlotsInSoftMoe) {
  const MoeOptions options{.experts = 8, .router = RouterKind::kSoft, .soft_slots = 5};
  // An expert has 20 rows from each of 4 lanes, which take the place of 32; of 8 experts a rank hosts 2.
  EXPECT_EQ(exchange_bytes(options, 4, 256, 16, 4, Dtype::kBF16), 4 * 2 * 32 * 16 * 2);
}

TEST(Exchange, ThrowsWhereCommunicatorAndGridDiffer) {
  run_ranks(2, [](Communicator& comm) {
    const Grid other(0, 1, 1);
    EXPECT_THROW(Exchange(comm, other, 0, 4), InternalError);
  });
}

}  // namespace
}  // namespace switchyard
