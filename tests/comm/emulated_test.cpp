// Transfers on emulated links take the time of the model, on clocks that only the test moves.
#include "tests/comm/emulated.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "kernels/memory.h"
#include "tests/comm/exchanges.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr LinkModel kModel{{1e-3, 1e6}, {5e-3, 1e5}};  // 1000 bytes: 2 ms within a host, 15 ms between hosts
constexpr int64_t kRow = 8;                            // bytes

// One rank of an emulated world.
struct Place {
  Communicator& comm;
  FakeClock& clock;
  std::vector<int> hosts;
};

void on_links(std::vector<int> hosts, const std::function<void(Place&)>& body, bool checked = true) {
  run_ranks(static_cast<int>(hosts.size()),
            [&](Communicator& world) {
              const auto clock = std::make_shared<FakeClock>();
              const std::unique_ptr<Communicator> comm = emulate(world, kModel, hosts, clock);
              Place place{*comm, *clock, hosts};
              body(place);
            },
            {.checked = checked});
}

// An all_to_all of bytes [P, P], multiples of 8, whose inbox lives as long as it.
class Exchange {
 public:
  Exchange(Communicator& comm, const std::vector<int64_t>& bytes, OutboxUse use = OutboxUse::kExchange) : comm_(comm) {
    const int ranks = comm.size();
    std::vector<Segment> send, receive;
    int64_t out = 0;
    int64_t in = 0;
    for (int peer = 0; peer < ranks; ++peer) {
      const int64_t to = bytes[static_cast<size_t>(comm.rank() * ranks + peer)] / kRow;
      const int64_t from = bytes[static_cast<size_t>(peer * ranks + comm.rank())] / kRow;
      send.push_back({peer, out, to});
      receive.push_back({peer, in, from});
      out += to;
      in += from;
    }
    inbox_ = make_buffer(Dtype::kF64, {in, 1});
    const Tensor outbox = comm.outbox(use, Dtype::kF64, out, 1);
    event_ = comm.all_to_all({"dispatch", 0}, outbox, send, inbox_.tensor(Dtype::kF64, {in, 1}), receive, {});
  }
  void wait() { comm_.wait(event_); }

 private:
  Communicator& comm_;
  Buffer inbox_;
  Event event_;
};

std::vector<int64_t> every_pair(int ranks, int64_t bytes) { return std::vector<int64_t>(static_cast<size_t>(ranks * ranks), bytes); }

TEST(EmulatedLink, TransfersTakeTheTimeOfTheModel) {
  Dice dice(11);
  for (const std::vector<int>& hosts : {std::vector<int>{0}, {0, 0}, {0, 1}, {0, 1, 0}, {0, 0, 1, 1}, {0, 0, 0, 1, 1, 2, 2, 2}}) {
    std::vector<int64_t> bytes;
    for (size_t pair = 0; pair < hosts.size() * hosts.size(); ++pair) bytes.push_back(dice.below(3) == 0 ? 0 : dice.below(100) * kRow);
    on_links(hosts, [&](Place& place) {
      Exchange exchange(place.comm, bytes);
      EXPECT_EQ(place.clock.now_ns(), 0) << "the processor is free until the wait";
      exchange.wait();
      const double expected = 1e9 * arrival_seconds(kModel, hosts, bytes, place.comm.rank());
      EXPECT_NEAR(static_cast<double>(place.clock.now_ns()), expected, 10) << "rank " << place.comm.rank() << " of " << hosts.size();
    });
  }
}

TEST(EmulatedLink, IncastQueuesAtTheReceiver) {
  std::vector<int64_t> to_rank_0 = every_pair(4, 0);
  for (const size_t sender : {1, 2, 3}) to_rank_0[4 * sender] = 1000;
  on_links({0, 0, 0, 0}, [&](Place& place) {
    Exchange(place.comm, to_rank_0).wait();
    EXPECT_EQ(place.clock.now_ns(), place.comm.rank() == 0 ? 6 * kMs : 0) << "three messages of 2 ms enter rank 0 one after another";
  });
}

TEST(EmulatedLink, BackToBackTransfersQueue) {
  on_links({0, 0, 1}, [&](Place& place) {
    const std::vector<int64_t> bytes = every_pair(3, 1000);
    Exchange first(place.comm, bytes), second(place.comm, bytes), bucket(place.comm, bytes, OutboxUse::kBucket);
    bucket.wait();  // the last one; waits need not be in order
    EXPECT_EQ(place.clock.now_ns(), 3 * 30 * kMs) << "what enters rank 2 takes 30 ms, and each rank gets rows of it or sends to it";
    first.wait();
    second.wait();
    EXPECT_EQ(place.clock.now_ns(), 3 * 30 * kMs) << "they were over before";
  });
}

TEST(EmulatedLink, ComputingMeanwhileHidesTheTransfer) {
  for (const int64_t computing : {1 * kMs, 2 * kMs, 7 * kMs}) {
    on_links({0, 0}, [&](Place& place) {
      Exchange exchange(place.comm, every_pair(2, 1000));
      place.clock.compute(computing);
      exchange.wait();
      EXPECT_EQ(place.clock.now_ns(), std::max(computing, 2 * kMs));
    });
  }
}

TEST(EmulatedLink, ALateSenderIsWaitedFor) {
  on_links({0, 0}, [&](Place& place) {
    if (place.comm.rank() == 1) place.clock.compute(10 * kMs);
    Exchange(place.comm, every_pair(2, 1000)).wait();
    EXPECT_EQ(place.clock.now_ns(), (place.comm.rank() == 0 ? 12 : 10) * kMs) << "rank 1's rows were there when it came";
  });
}

TEST(EmulatedLink, AnOutboxIsFreeWhenItsRowsHaveLeft) {
  std::vector<int64_t> one_way = every_pair(2, 0);
  one_way[1] = 1000;  // rank 0 to rank 1
  on_links({0, 1}, [&](Place& place) {
    Exchange first(place.comm, one_way), second(place.comm, one_way);
    EXPECT_EQ(place.clock.now_ns(), 0) << "two outboxes";
    Exchange third(place.comm, one_way);
    EXPECT_EQ(place.clock.now_ns(), 15 * kMs) << "the first one's again, on both sides";
    third.wait();
    EXPECT_EQ(place.clock.now_ns(), (place.comm.rank() == 0 ? 15 : 45) * kMs);
  });
}

TEST(EmulatedLink, OtherCollectivesTakeTimeToo) {
  on_links({0, 0, 0, 1}, [&](Place& place) {
    place.comm.barrier({"barrier", -1});
    EXPECT_EQ(place.clock.now_ns(), 2 * 5 * kMs) << "two levels of a tree between hosts";
    double value = 0;
    place.comm.broadcast({"value", -1}, Tensor(&value, Dtype::kF64, {1}), 2);
    EXPECT_NEAR(static_cast<double>(place.clock.now_ns()), 20.16 * kMs, 10);
    const std::vector<int64_t> rows = {125, 0, 0, 0};
    std::vector<double> all(125), mine(place.comm.rank() == 0 ? 125 : 0);
    place.comm.all_gather({"gather", -1}, Tensor(mine.data(), Dtype::kF64, {static_cast<int64_t>(mine.size())}), Tensor(all.data(), Dtype::kF64, {125}), rows);
    const double taken = static_cast<double>(place.clock.now_ns()) - 20.16 * kMs;
    const std::vector<double> expected = {19.0 * kMs, 2.0 * kMs, 2.0 * kMs, 15.0 * kMs};
    EXPECT_NEAR(taken, expected[static_cast<size_t>(place.comm.rank())], 10) << "1000 bytes to two ranks of the host and to one of another";
  });
}

TEST(EmulatedLink, SplitGroupsShareTheLinkAndKeepTheirHosts) {
  on_links({0, 1, 0, 1}, [&](Place& place) {
    const std::unique_ptr<Communicator> pair = place.comm.split(place.comm.rank() / 2, 0);
    place.clock.sleep_until(100 * kMs);  // past what the split took
    Exchange inside(*pair, every_pair(2, 1000)), outside(place.comm, every_pair(4, 1000));
    inside.wait();
    EXPECT_EQ(place.clock.now_ns(), 115 * kMs) << "the two are on different hosts";
    outside.wait();
    EXPECT_EQ(place.clock.now_ns(), (115 + 2 * 15 + 2) * kMs) << "it waits until the link is free";
  });
}

TEST(MonotonicClock, NeverWakesEarly) {
  const std::unique_ptr<LinkClock> clock = make_monotonic_clock();
  for (const int64_t nap : {int64_t{-5'000'000'000}, int64_t{0}, int64_t{20'000}, int64_t{300'000}}) {
    const int64_t until = clock->now_ns() + nap;
    clock->sleep_until(until);
    EXPECT_GE(clock->now_ns(), until);
  }
}

}  // namespace
}  // namespace switchyard
