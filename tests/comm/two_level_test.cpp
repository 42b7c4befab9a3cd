// Between hosts one message for each pair of hosts, with exactly the rows that leave; inside a host the rest.
#include "tests/comm/two_level.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <set>

#include "comm/two_level_plan.h"
#include "tests/comm/exchanges.h"
#include "tests/comm/transport_cases.h"

namespace switchyard {
namespace {

const std::vector<std::vector<int>>& groupings() {
  static const std::vector<std::vector<int>> known = {{0},
                                                      {0, 0},
                                                      {0, 1},
                                                      {0, 0, 0},
                                                      {5, 5, -2},
                                                      {0, 1, 0},
                                                      {0, 0, 1, 1},
                                                      {0, 1, 0, 1},
                                                      {0, 1, 2, 3},
                                                      {0, 1, 1, 1, 1},
                                                      {0, 0, 1, 1, 2, 2},
                                                      {0, 0, 0, 0, 1, 1, 1, 1},
                                                      {0, 0, 0, 1, 1, 2, 3, 2}};
  return known;
}

std::string text(const std::vector<int>& hosts) {
  std::string result;
  for (const int host : hosts) result += std::to_string(host) + " ";
  return result;
}

TEST(HostMap, NumbersHostsByTheirFirstRank) {
  const HostMap map(std::vector<int>{7, 3, 7, 3, 3, -1});
  EXPECT_EQ(map.hosts(), 3);
  EXPECT_EQ(map.members(0), (std::vector<int>{0, 2}));
  EXPECT_EQ(map.members(1), (std::vector<int>{1, 3, 4}));
  EXPECT_EQ(map.host(5), 2);
  EXPECT_EQ(map.place(4), 2);
}

TEST(HostMap, SpreadsCarriersOverTheRanksOfAHost) {
  const HostMap map(std::vector<int>{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3});
  for (int host = 0; host < 4; ++host) {
    std::set<int> senders, receivers;
    for (int other = 0; other < 4; ++other) {
      if (other == host) continue;
      senders.insert(map.carrier_out(host, other));
      receivers.insert(map.carrier_in(other, host));
      EXPECT_EQ(map.host(map.carrier_out(host, other)), host);
      EXPECT_EQ(map.host(map.carrier_in(other, host)), host);
    }
    EXPECT_EQ(senders.size(), 3u) << "three other hosts, three ranks";
    EXPECT_EQ(receivers.size(), 3u);
  }
}

class Cases : public testing::TestWithParam<size_t> {};

TEST_P(Cases, HoldOnEveryGroupingOfRanks) {
  const TransportCase& promise = transport_cases()[GetParam()];
  for (const std::vector<int>& hosts : {std::vector<int>{0}, {0, 1}, {5, 5, -2}, {0, 1, 0, 1}, {0, 1, 1, 1, 1}, {0, 0, 0, 1, 1, 2, 3, 2}}) {
    for (const int64_t deliver_bytes : {0, 600}) {
      SCOPED_TRACE("hosts " + text(hosts) + ", rounds of " + std::to_string(deliver_bytes) + " bytes");
      run_two_level({hosts, promise.sizes, deliver_bytes}, promise.run);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(TwoLevel, Cases, testing::Range(size_t{0}, transport_cases().size()),
                         [](const auto& parameter) { return transport_cases()[parameter.param].name; });

// What the ranks of a world have moved together.
struct Sum {
  std::atomic<int64_t> messages{0}, between{0}, within{0};
};

TEST(Traffic, BetweenHostsIsTheCountMatrixAndOneMessageAPair) {
  for (const std::vector<int>& hosts : groupings()) {
    for (uint64_t seed = 1; seed < 8; ++seed) {
      const ExchangeKind kind{seed, OutboxUse::kExchange, Dtype::kF32, 4, 9};
      Sum sum;
      std::vector<int64_t> counts;
      run_two_level({hosts}, [&](TwoLevelCommunicator& comm) {
        RandomExchange exchange(comm, kind);
        exchange.verify();
        comm.barrier({"all delivered", -1});
        sum.messages += comm.traffic().messages_between_hosts;
        sum.between += comm.traffic().bytes_between_hosts;
        sum.within += comm.traffic().bytes_within_host;
        if (comm.rank() == 0) counts = exchange.counts();
      });
      const HostMap map(hosts);
      std::set<std::pair<int, int>> pairs;
      std::vector<int64_t> bytes;
      int64_t off_host = 0;
      for (int sender = 0; sender < map.ranks(); ++sender) {
        for (int receiver = 0; receiver < map.ranks(); ++receiver) {
          const int64_t rows = counts[static_cast<size_t>(sender * map.ranks() + receiver)];
          bytes.push_back(rows * 16);
          if (rows == 0 || map.host(sender) == map.host(receiver)) continue;
          off_host += rows * 16;
          pairs.emplace(map.host(sender), map.host(receiver));
        }
      }
      EXPECT_EQ(sum.between, off_host) << "hosts " << text(hosts) << ", seed " << seed;
      EXPECT_EQ(sum.messages, static_cast<int64_t>(pairs.size())) << "hosts " << text(hosts) << ", seed " << seed;
      const auto parts = two_level_bytes(map, bytes);
      const auto total = [](const std::vector<int64_t>& part) { return std::accumulate(part.begin(), part.end(), int64_t{0}); };
      EXPECT_EQ(total(parts[1]), off_host) << "the model's matrix of what travels between hosts";
      EXPECT_EQ(sum.within, total(parts[0]) + total(parts[2])) << "and of what moves inside them, hosts " << text(hosts) << ", seed " << seed;
    }
  }
}

TEST(Traffic, FullMatricesTakeHTimesHMinusOneMessages) {
  for (const auto& [hosts, messages] :
       {std::pair<std::vector<int>, int64_t>{{0, 0, 0, 0}, 0}, {{0, 0, 1, 1}, 2}, {{0, 0, 1, 1, 2, 2}, 6}, {{0, 1, 2, 3}, 12}}) {
    std::atomic<int64_t> sum{0};
    run_two_level({hosts}, [&](TwoLevelCommunicator& comm) {
      const int64_t ranks = comm.size();
      std::vector<double> values(static_cast<size_t>(ranks));
      std::vector<Segment> segments;
      for (int peer = 0; peer < comm.size(); ++peer) segments.push_back({peer, peer, 1});
      const Tensor outbox = comm.outbox(OutboxUse::kExchange, Dtype::kF64, ranks, 1);
      for (int64_t peer = 0; peer < ranks; ++peer) *outbox.row<double>(peer) = comm.rank() * 100 + static_cast<double>(peer);
      comm.wait(comm.all_to_all({"dispatch", 0}, outbox, segments, Tensor(values.data(), Dtype::kF64, {ranks, 1}), segments, {}));
      for (int peer = 0; peer < comm.size(); ++peer) EXPECT_EQ(values[static_cast<size_t>(peer)], peer * 100 + comm.rank());
      sum += comm.traffic().messages_between_hosts;
    });
    EXPECT_EQ(sum, messages) << "hosts " << text(hosts);
  }
}

TEST(TwoLevel, RefusesPartsOfOtherRanks) {
  run_ranks(2, [](Communicator& world) {
    TwoLevelParts parts{world.split(0, 0), world.split(world.rank(), 0), world.split(world.rank(), 0), 0, {0, 0}};
    EXPECT_THROW(make_two_level_communicator(std::move(parts)), InternalError) << "two ranks of one host, each alone inside";
  });
}

}  // namespace
}  // namespace switchyard
