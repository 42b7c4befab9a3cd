#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <memory>
#include <numeric>

#include "comm/agree.h"
#include "comm/scalars.h"
#include "tests/comm/exchanges.h"
#include "tests/comm/transport_cases.h"

namespace switchyard {

namespace {

constexpr std::array<Dtype, 4> kDtypes = {Dtype::kF64, Dtype::kF32, Dtype::kBF16, Dtype::kI32};
constexpr OutboxSizes kRoomy{1 << 16, 1 << 16};

void ranks_are_numbered(Communicator& comm) {
  EXPECT_GE(comm.rank(), 0);
  EXPECT_LT(comm.rank(), comm.size());
  std::vector<int64_t> seen(static_cast<size_t>(comm.size()), 0);
  seen[static_cast<size_t>(comm.rank())] = 1;
  comm.reduce({"seen", -1}, seen, Reduction::kSum);
  EXPECT_EQ(seen, std::vector<int64_t>(seen.size(), 1)) << "each rank must exist once";
}

void broadcast_carries_every_dtype_from_every_root(Communicator& comm) {
  for (const Dtype dtype : kDtypes) {
    for (int root = 0; root < comm.size(); ++root) {
      for (const int64_t rows : {int64_t{0}, int64_t{1}, int64_t{70}}) {
        const Buffer buffer = make_buffer(dtype, {rows, 3});
        const Tensor tensor = buffer.tensor(dtype, {rows, 3});
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t c = 0; c < 3; ++c) store(tensor, i, c, comm.rank() == root ? payload(dtype, root, 9, i, c) : 0);
        }
        comm.broadcast({"broadcast", 1}, tensor, root);
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t c = 0; c < 3; ++c) ASSERT_EQ(load(tensor, i, c), payload(dtype, root, 9, i, c)) << name(dtype) << " from root " << root;
        }
      }
    }
  }
}

// Rank r brings (r * 3 + shift) % 4 rows: some bring none.
void gather_once(Communicator& comm, Dtype dtype, int shift, bool in_place) {
  std::vector<int64_t> rows;
  for (int r = 0; r < comm.size(); ++r) rows.push_back((r * 3 + shift) % 4);
  const int64_t own = rows[static_cast<size_t>(comm.rank())];
  const int64_t before = std::accumulate(rows.begin(), rows.begin() + comm.rank(), int64_t{0});
  const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  const Buffer result = make_buffer(dtype, {total, 2});
  const Tensor all = result.tensor(dtype, {total, 2});
  const Buffer operand = make_buffer(dtype, {own, 2});
  const Tensor mine = in_place ? all.slice_rows(before, own) : operand.tensor(dtype, {own, 2});
  for (int64_t i = 0; i < own; ++i) {
    for (int64_t c = 0; c < 2; ++c) store(mine, i, c, payload(dtype, comm.rank(), 0, i, c));
  }
  comm.all_gather({"gather", 2}, mine, all, rows);
  int64_t row = 0;
  for (int r = 0; r < comm.size(); ++r) {
    for (int64_t i = 0; i < rows[static_cast<size_t>(r)]; ++i, ++row) {
      for (int64_t c = 0; c < 2; ++c) ASSERT_EQ(load(all, row, c), payload(dtype, r, 0, i, c)) << name(dtype) << ", row " << i << " of rank " << r;
    }
  }
}

void all_gather_keeps_rank_order_with_uneven_rows(Communicator& comm) {
  for (const Dtype dtype : kDtypes) {
    for (int shift = 0; shift < 4; ++shift) {
      gather_once(comm, dtype, shift, false);
      gather_once(comm, dtype, shift, true);
    }
  }
}

void all_gather_of_nothing(Communicator& comm) {
  const std::vector<int64_t> rows(static_cast<size_t>(comm.size()), 0);
  comm.all_gather({"gather", 2}, Tensor(nullptr, Dtype::kF32, {0, 4}), Tensor(nullptr, Dtype::kF32, {0, 4}), rows);
}

void scalars_arrive_in_rank_order(Communicator& comm) {
  std::vector<int64_t> counts;
  std::vector<double> expected;
  for (int r = 0; r < comm.size(); ++r) {
    counts.push_back(r % 3);
    for (int i = 0; i < r % 3; ++i) expected.push_back(r + 1.0 / 3 + i);
  }
  std::vector<double> mine;
  for (int i = 0; i < comm.rank() % 3; ++i) mine.push_back(comm.rank() + 1.0 / 3 + i);
  std::vector<double> all(expected.size());
  gather_scalars(comm, {"scalars", -1}, mine, counts, all);
  EXPECT_EQ(all, expected);
}

void reductions_are_exact_in_64_bits(Communicator& comm) {
  const int64_t big = int64_t{1} << 60;
  const int64_t r = comm.rank();
  const int64_t last = comm.size() - 1;
  std::vector<int64_t> values = {big / 16 + r, -r, 7};
  comm.reduce({"sum", -1}, values, Reduction::kSum);
  EXPECT_EQ(values, (std::vector<int64_t>{(last + 1) * (big / 16) + last * (last + 1) / 2, -last * (last + 1) / 2, 7 * (last + 1)}));
  values = {big + r, -r, std::numeric_limits<int64_t>::max()};
  comm.reduce({"min", -1}, values, Reduction::kMin);
  EXPECT_EQ(values, (std::vector<int64_t>{big, -last, std::numeric_limits<int64_t>::max()}));
  values = {big + r, -r, std::numeric_limits<int64_t>::min()};
  comm.reduce({"max", -1}, values, Reduction::kMax);
  EXPECT_EQ(values, (std::vector<int64_t>{big + last, 0, std::numeric_limits<int64_t>::min()}));
  values = {int64_t{1} << r, 0};
  comm.reduce({"or", -1}, values, Reduction::kOr);
  EXPECT_EQ(values, (std::vector<int64_t>{(int64_t{1} << comm.size()) - 1, 0}));
  comm.reduce({"nothing", -1}, {}, Reduction::kSum);
}

void random_exchanges_deliver_every_row(Communicator& comm) {
  uint64_t seed = 1;
  for (const Dtype dtype : kDtypes) {
    for (const int64_t columns : {1, 5, 64}) {
      for (int repeat = 0; repeat < 3; ++repeat) RandomExchange(comm, {seed++, OutboxUse::kExchange, dtype, columns, 9}).verify();
    }
  }
}

void every_kind_of_matrix_delivers_every_row(Communicator& comm) {
  uint64_t seed = 5000;
  for (int matrix = 0; matrix < kMatrices; ++matrix) {
    for (const Dtype dtype : kDtypes) {
      for (int repeat = 0; repeat < 3; ++repeat) RandomExchange(comm, {seed++, OutboxUse::kExchange, dtype, 3, 7, static_cast<Matrix>(matrix)}).verify();
    }
  }
}

// wait is no collective: a rank may wait late, early, and in another order than its peers.
void ranks_wait_in_their_own_order(Communicator& comm) {
  for (uint64_t round = 0; round < 20; ++round) {
    const bool early = (static_cast<uint64_t>(comm.rank()) + round) % 3 == 0;
    const bool late = (static_cast<uint64_t>(comm.rank()) + round) % 3 == 1;
    RandomExchange first(comm, {6000 + round, OutboxUse::kExchange, Dtype::kF32, 5, 9});
    if (early) first.verify();
    RandomExchange second(comm, {6100 + round, OutboxUse::kExchange, Dtype::kF64, 2, 9});
    if (early) second.verify();
    RandomExchange bucket(comm, {6200 + round, OutboxUse::kBucket, Dtype::kF32, 1, 9});
    if (late) comm.barrier({"between", -1});
    bucket.verify();
    second.verify();
    if (!late) comm.barrier({"between", -1});
    first.verify();
  }
}

void exchanges_without_rows_complete(Communicator& comm) {
  const std::vector<Segment> nothing;
  std::vector<Segment> empty;
  for (int peer = 0; peer < comm.size(); ++peer) empty.push_back({peer, 0, 0});
  for (int repeat = 0; repeat < 3; ++repeat) {
    const Tensor outbox = comm.outbox(OutboxUse::kExchange, Dtype::kF32, 0, 8);
    comm.wait(comm.all_to_all({"empty", 0}, outbox, repeat == 0 ? nothing : empty, Tensor(nullptr, Dtype::kF32, {0, 8}), empty, {}));
  }
}

// Two outboxes of each use are in flight and are used again before anybody waits.
void buckets_and_dispatch_need_no_wait_between(Communicator& comm) {
  std::vector<std::unique_ptr<RandomExchange>> flying;
  const auto send = [&](OutboxUse use) {
    flying.push_back(std::make_unique<RandomExchange>(comm, ExchangeKind{100 + flying.size(), use, Dtype::kF32, 16, 20}));
  };
  for (int round = 0; round < 4; ++round) {
    send(OutboxUse::kBucket);
    send(OutboxUse::kBucket);
    send(OutboxUse::kExchange);
    if (round == 2) comm.barrier({"between", -1});
  }
  for (auto last = flying.rbegin(); last != flying.rend(); ++last) (*last)->verify();
}

void a_late_rank_changes_nothing(Communicator& comm) {
  Dice own(static_cast<uint64_t>(comm.rank()) + 77);
  Dice shared(5);
  for (int round = 0; round < 30; ++round) {
    const uint64_t seed = 1000 + static_cast<uint64_t>(round);
    const bool late = shared.below(comm.size()) == comm.rank();
    if (late) dawdle(own);
    RandomExchange bucket(comm, {seed, OutboxUse::kBucket, Dtype::kF64, 2, 12});
    if (late) dawdle(own);
    RandomExchange dispatch(comm, {seed + 500, OutboxUse::kExchange, Dtype::kBF16, 7, 12}, round % 2 == 0 ? bucket.event() : Event{});
    if (late) dawdle(own);
    int64_t sum = comm.rank();
    comm.reduce({"sum", -1}, {&sum, 1}, Reduction::kSum);
    ASSERT_EQ(sum, comm.size() * (comm.size() - 1) / 2);
    if (late) dawdle(own);
    dispatch.verify();
    bucket.verify();
  }
}

void an_event_may_be_awaited_again(Communicator& comm) {
  comm.wait(Event{});
  RandomExchange exchange(comm, {42});
  exchange.verify();
  comm.wait(exchange.event());
  RandomExchange second(comm, {43}, exchange.event());
  RandomExchange third(comm, {44}, second.event());
  comm.wait(exchange.event());
  third.verify();
  second.verify();
}

void an_outbox_refuses_more_than_its_size(Communicator& comm) {
  EXPECT_THROW(comm.outbox(OutboxUse::kExchange, Dtype::kF32, (1 << 14) + 1, 1), InternalError);
  EXPECT_THROW(comm.outbox(OutboxUse::kBucket, Dtype::kF64, int64_t{1} << 40, int64_t{1} << 40), Error);
  EXPECT_EQ(comm.outbox(OutboxUse::kExchange, Dtype::kF32, 1 << 14, 1).rows(), 1 << 14) << "the full size fits";
  RandomExchange(comm, {3}).verify();
}

void an_outbox_is_sent_once(Communicator& comm) {
  const Tensor outbox = comm.outbox(OutboxUse::kExchange, Dtype::kF32, 0, 1);
  const Tensor inbox(nullptr, Dtype::kF32, {0, 1});
  comm.wait(comm.all_to_all({"first", 0}, outbox, {}, inbox, {}, {}));
  EXPECT_THROW(comm.all_to_all({"again", 0}, outbox, {}, inbox, {}, {}), InternalError);
  float foreign = 0;
  EXPECT_THROW(comm.all_to_all({"foreign", 0}, Tensor(&foreign, Dtype::kF32, {1, 1}), {}, inbox, {}, {}), InternalError);
}

void outboxes_grow_where_no_size_was_given(Communicator& comm) {
  for (const int64_t columns : {1, 4000, 17, 20000}) {
    RandomExchange(comm, {static_cast<uint64_t>(columns), OutboxUse::kExchange, Dtype::kF64, columns, 3}).verify();
    RandomExchange(comm, {static_cast<uint64_t>(columns) + 1, OutboxUse::kBucket, Dtype::kI32, columns, 3}).verify();
  }
}

void split_makes_groups_in_key_order(Communicator& comm) {
  const int parity = comm.rank() % 2;
  const std::unique_ptr<Communicator> part = comm.split(parity, -comm.rank());
  const int members = (comm.size() + 1 - parity) / 2;
  ASSERT_EQ(part->size(), members);
  const int highest = comm.size() - 1 - (comm.size() - 1 - parity) % 2;
  EXPECT_EQ(part->rank(), (highest - comm.rank()) / 2) << "the highest rank has the lowest key";
  int64_t sum = comm.rank();
  part->reduce({"part", -1}, {&sum, 1}, Reduction::kSum);
  EXPECT_EQ(sum, members * (members - 1) + parity * members);
  RandomExchange inner(*part, {8});
  RandomExchange outer(comm, {9});
  inner.verify();
  outer.verify();
}

void bytes_sent_follow_the_formula(Communicator& comm) {
  const int64_t before = comm.bytes_sent();
  RandomExchange exchange(comm, {21, OutboxUse::kExchange, Dtype::kBF16, 6, 9});
  exchange.verify();
  int64_t expected = exchange.rows_to_others() * 6 * 2;
  EXPECT_EQ(comm.bytes_sent() - before, expected) << "all_to_all: rows to others, not one's own";
  const std::vector<int64_t> rows(static_cast<size_t>(comm.size()), 2);
  std::vector<double> mine(2), all(rows.size() * 2);
  gather_scalars(comm, {"scalars", -1}, mine, rows, all);
  expected += 16 * (comm.size() - 1);
  EXPECT_EQ(comm.bytes_sent() - before, expected) << "all_gather: its part to every other rank";
  comm.broadcast({"value", -1}, Tensor(mine.data(), Dtype::kF64, {2}), 0);
  if (comm.rank() == 0) expected += 16 * (comm.size() - 1);
  EXPECT_EQ(comm.bytes_sent() - before, expected) << "broadcast: the root to every other rank";
}

void agreement_without_errors_returns(Communicator& comm) {
  agree(comm, std::nullopt, {"agree", -1});
  agree_on(comm, {"agree", -1}, [] {});
}

void agreement_takes_the_lowest_failing_rank(Communicator& comm) {
  const int lowest = comm.size() / 2;
  const std::string prefix = comm.size() > 1 ? "rank " + std::to_string(lowest) + ": " : "";
  try {
    agree_on(comm, {"load", -1}, [&] {
      if (comm.rank() == lowest) throw Error(ExitCode::kData, "the file is torn");
      if (comm.rank() > lowest) throw Error(ExitCode::kInputOutput, "no such file");
    });
    FAIL() << "rank " << comm.rank() << " went on although rank " << lowest << " failed";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_EQ(error.what(), prefix + "the file is torn");
    EXPECT_EQ(error.rank(), lowest);
  }
  comm.barrier({"after", -1});
}

void agreement_cuts_long_sentences(Communicator& comm) {
  const std::optional<Error> mine = Error(ExitCode::kUsage, std::string(5000, 'x'));
  try {
    agree(comm, mine, {"agree", -1});
    FAIL() << "every rank failed, yet none threw";
  } catch (const AgreedError& error) {
    const std::string text = error.what();
    EXPECT_LT(text.size(), 600u);
    EXPECT_EQ(text.substr(text.size() - 4), "x...");
  }
}

// What a step does: pack, send, wait, sum an integer.
void step(Communicator& comm, std::span<const Segment> segments, const Tensor& inbox) {
  for (const OutboxUse use : {OutboxUse::kBucket, OutboxUse::kExchange, OutboxUse::kBucket}) {
    const Tensor outbox = comm.outbox(use, Dtype::kF32, comm.size() * 4, 8);
    comm.wait(comm.all_to_all({"dispatch", 0}, outbox, segments, inbox, segments, {}));
  }
  int64_t flag = 1;
  comm.reduce({"flag", -1}, {&flag, 1}, Reduction::kOr);
  comm.barrier({"step", -1});
}

void a_warm_step_allocates_nothing(Communicator& comm) {
  const Buffer buffer = make_buffer(Dtype::kF32, {comm.size() * 4, 8});
  const Tensor inbox = buffer.tensor(Dtype::kF32, {comm.size() * 4, 8});
  std::vector<Segment> segments;
  for (int peer = 0; peer < comm.size(); ++peer) {  // two runs a pair
    segments.push_back({peer, peer * 4, 1});
    segments.push_back({peer, peer * 4 + 2, 2});
  }
  for (int warm_up = 0; warm_up < 4; ++warm_up) step(comm, segments, inbox);
  const int64_t before = allocations_of_this_thread();
  for (int repeat = 0; repeat < 4; ++repeat) step(comm, segments, inbox);
  EXPECT_EQ(allocations_of_this_thread(), before) << "rank " << comm.rank() << " allocated in a step";
}

}  // namespace

const std::vector<TransportCase>& transport_cases() {
  static const std::vector<TransportCase> cases = {
#define SWITCHYARD_CASE(name, sizes) {#name, name, sizes}
      SWITCHYARD_CASE(ranks_are_numbered, kRoomy),
      SWITCHYARD_CASE(broadcast_carries_every_dtype_from_every_root, kRoomy),
      SWITCHYARD_CASE(all_gather_keeps_rank_order_with_uneven_rows, kRoomy),
      SWITCHYARD_CASE(all_gather_of_nothing, kRoomy),
      SWITCHYARD_CASE(scalars_arrive_in_rank_order, kRoomy),
      SWITCHYARD_CASE(reductions_are_exact_in_64_bits, kRoomy),
      SWITCHYARD_CASE(random_exchanges_deliver_every_row, kRoomy),
      SWITCHYARD_CASE(every_kind_of_matrix_delivers_every_row, kRoomy),
      SWITCHYARD_CASE(ranks_wait_in_their_own_order, kRoomy),
      SWITCHYARD_CASE(exchanges_without_rows_complete, kRoomy),
      SWITCHYARD_CASE(buckets_and_dispatch_need_no_wait_between, kRoomy),
      SWITCHYARD_CASE(a_late_rank_changes_nothing, kRoomy),
      SWITCHYARD_CASE(an_event_may_be_awaited_again, kRoomy),
      SWITCHYARD_CASE(an_outbox_refuses_more_than_its_size, kRoomy),
      SWITCHYARD_CASE(an_outbox_is_sent_once, kRoomy),
      SWITCHYARD_CASE(outboxes_grow_where_no_size_was_given, OutboxSizes{}),
      SWITCHYARD_CASE(split_makes_groups_in_key_order, kRoomy),
      SWITCHYARD_CASE(bytes_sent_follow_the_formula, kRoomy),
      SWITCHYARD_CASE(agreement_without_errors_returns, kRoomy),
      SWITCHYARD_CASE(agreement_takes_the_lowest_failing_rank, kRoomy),
      SWITCHYARD_CASE(agreement_cuts_long_sentences, kRoomy),
      SWITCHYARD_CASE(a_warm_step_allocates_nothing, kRoomy),
#undef SWITCHYARD_CASE
  };
  return cases;
}

}  // namespace switchyard
