// The transports between processes: started by mpirun with 1 to 4 ranks (label mpi). Rank 0 reports, the others print
// only what failed on them.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include "comm/agree.h"
#include "comm/checked.h"
#include "comm/emulated.h"
#include "comm/make.h"
#include "comm/mpi.h"
#include "comm/two_level.h"
#include "tests/comm/exchanges.h"
#include "tests/comm/mpi/mpi_ranks.h"
#include "tests/comm/transport_cases.h"

namespace switchyard {
namespace {

enum class Under { kMpi, kMpiInPieces, kMpiCountingToThree, kMpiPairwise, kPairwiseInPieces, kWindow, kCheckedWindow, kTwoLevel, kCheckedTwoLevel, kEmulated };

std::string label(Under under) {
  switch (under) {
    case Under::kMpi: return "mpi";
    case Under::kMpiInPieces: return "mpi_in_pieces";
    case Under::kMpiCountingToThree: return "mpi_counting_to_three";
    case Under::kMpiPairwise: return "mpi_pairwise";
    case Under::kPairwiseInPieces: return "pairwise_in_pieces";
    case Under::kWindow: return "window";
    case Under::kCheckedWindow: return "checked_window";
    case Under::kTwoLevel: return "two_level";
    case Under::kCheckedTwoLevel: return "checked_two_level";
    case Under::kEmulated: return "emulated";
  }
  return "?";
}

std::unique_ptr<Communicator> make_window(OutboxSizes sizes) {
  WindowOrMpi made = make_window_communicator(session()->world(), sizes);
  EXPECT_EQ(made.fallback, "");
  return std::move(made.communicator);
}

// Ranks 0 and 1 on one host, 2 and 3 on another.
std::vector<int> pretended_hosts() {
  std::vector<int> hosts;
  for (int rank = 0; rank < session()->size(); ++rank) hosts.push_back(rank / 2);
  return hosts;
}

std::unique_ptr<Communicator> make_two_level(OutboxSizes sizes) {
  TwoLevelOverMpi made = make_two_level_over_mpi(session()->world(), sizes, pretended_hosts());
  EXPECT_TRUE(made.windows);
  return std::move(made.communicator);
}

std::unique_ptr<Communicator> make_emulated(OutboxSizes sizes, const LinkModel& model) {
  return make_emulated_communicator(make_window(sizes), make_mpi_communicator(session()->world(), {64, 64}), {model, pretended_hosts()},
                                    make_monotonic_clock());
}

std::unique_ptr<Communicator> make(Under under, OutboxSizes sizes) {
  switch (under) {
    case Under::kMpi: return make_mpi_communicator(session()->world(), sizes);
    case Under::kMpiInPieces: return make_mpi_communicator(session()->world(), sizes, {.largest_message = 48});  // messages of a few rows
    case Under::kMpiCountingToThree: return make_mpi_communicator(session()->world(), sizes, {.largest_count = 3});
    case Under::kMpiPairwise: return make_mpi_communicator(session()->world(), sizes, {.algorithm = MpiAlgorithm::kPairwise});
    case Under::kPairwiseInPieces: return make_mpi_communicator(session()->world(), sizes, {.algorithm = MpiAlgorithm::kPairwise, .largest_message = 48});
    case Under::kTwoLevel: return make_two_level(sizes);
    case Under::kCheckedTwoLevel: return make_checked_communicator(make_two_level(sizes));
    case Under::kEmulated: return make_emulated(sizes, {{1e-6, 1e10}, {2e-6, 1e9}});
    case Under::kWindow: return make_window(sizes);
    case Under::kCheckedWindow: return make_checked_communicator(make_window(sizes));
  }
  return nullptr;
}

using Parameters = std::tuple<Under, size_t>;

std::vector<size_t> case_numbers(bool with_growth) {
  std::vector<size_t> numbers;
  for (size_t number = 0; number < transport_cases().size(); ++number) {
    if (with_growth || transport_cases()[number].sizes.exchange_bytes > 0) numbers.push_back(number);
  }
  return numbers;
}

std::string label_of(const testing::TestParamInfo<Parameters>& info) {
  return label(std::get<0>(info.param)) + "_" + transport_cases()[std::get<1>(info.param)].name;
}

class Transports : public testing::TestWithParam<Parameters> {};

TEST_P(Transports, Keeps) {
  const auto& [under, number] = GetParam();
  const TransportCase& promise = transport_cases()[number];
  on_every_rank([&, kind = under] { promise.run(*make(kind, promise.sizes)); });
}

INSTANTIATE_TEST_SUITE_P(Mpi, Transports,
                         testing::Combine(testing::Values(Under::kMpi, Under::kMpiInPieces, Under::kMpiCountingToThree, Under::kMpiPairwise,
                                                          Under::kPairwiseInPieces),
                                          testing::ValuesIn(case_numbers(true))),
                         label_of);
INSTANTIATE_TEST_SUITE_P(Window, Transports,
                         testing::Combine(testing::Values(Under::kWindow, Under::kCheckedWindow, Under::kTwoLevel, Under::kCheckedTwoLevel, Under::kEmulated),
                                          testing::ValuesIn(case_numbers(false))),
                         label_of);

constexpr OutboxSizes kSizes{1 << 16, 1 << 16};

// Rank 1 expects `expected` rows of rank 0, which sends `sent`. What rank 1 is told.
std::string complaint(Communicator& comm, int64_t sent, int64_t expected) {
  const Tensor outbox = comm.outbox(OutboxUse::kExchange, Dtype::kF32, sent, 2);
  const Buffer buffer = make_buffer(Dtype::kF32, {expected, 2});
  std::vector<Segment> send, receive;
  if (comm.rank() == 0) send.push_back({1, 0, sent});
  if (comm.rank() == 1) receive.push_back({0, 0, expected});
  try {
    comm.wait(comm.all_to_all({"dispatch", 3}, outbox, send, buffer.tensor(Dtype::kF32, {expected, 2}), receive, {}));
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

TEST(Mismatch, IsReportedByTheReceiver) {
  if (session()->size() < 2) return;  // one rank has no peer to disagree with
  on_every_rank([] {
    for (const Under under : {Under::kMpi, Under::kMpiPairwise, Under::kWindow}) {
      for (const auto& [sent, expected] : {std::pair{3, 2}, std::pair{2, 3}}) {
        const std::unique_ptr<Communicator> comm = make(under, kSizes);
        const std::string sentence = complaint(*comm, sent, expected);
        if (comm->rank() != 1) continue;
        for (const char* part : {"rank 0", "rank 1", "'dispatch' of layer 3"})
          EXPECT_NE(sentence.find(part), std::string::npos) << label(under) << ": " << sentence;
      }
    }
  });
}

TEST(Mismatch, OfOperationsIsReportedByTheChecker) {
  if (session()->size() < 2) return;
  on_every_rank([] {
    const std::unique_ptr<Communicator> comm = make(Under::kCheckedWindow, kSizes);
    std::string sentence;
    try {
      int64_t value = 0;
      if (comm->rank() == 1) comm->reduce({"norm", 4}, {&value, 1}, Reduction::kSum);
      if (comm->rank() != 1) comm->barrier({"save", -1});
    } catch (const Error& error) {
      sentence = error.what();
    }
    for (const char* part : {"rank 1 issues reduce 'norm' of layer 4", "rank 0 issues barrier 'save' of layer -1"}) {
      EXPECT_NE(sentence.find(part), std::string::npos) << sentence;
    }
  });
}

// Every rank sends two rows to every other: the first lands in front, the second behind more rows than int counts.
TEST(Transports, PlaceRowsBeyondWhatIntCounts) {
  on_every_rank([] {
    const int64_t ranks = session()->size();
    const int64_t beyond = (int64_t{1} << 31) + 10;
    const Expanse inbox((beyond + ranks) * 2);
    const Tensor target(inbox.data(), Dtype::kBF16, {beyond + ranks, 1});
    std::vector<Segment> send, receive;
    for (int peer = 0; peer < session()->size(); ++peer) {
      send.push_back({peer, 2 * peer, 2});
      receive.push_back({peer, peer, 1});
      receive.push_back({peer, beyond + peer, 1});
    }
    for (const Under under : {Under::kMpi, Under::kMpiPairwise, Under::kWindow, Under::kTwoLevel}) {
      const std::unique_ptr<Communicator> comm = make(under, kSizes);
      const Tensor outbox = comm->outbox(OutboxUse::kExchange, Dtype::kBF16, 2 * ranks, 1);
      for (int64_t row = 0; row < 2 * ranks; ++row) store(outbox, row, 0, payload(Dtype::kBF16, comm->rank(), static_cast<int>(under), row, 0));
      comm->wait(comm->all_to_all({"far", 0}, outbox, send, target, receive, {}));
      for (int peer = 0; peer < session()->size(); ++peer) {
        const auto sent = [&](int64_t i) { return payload(Dtype::kBF16, peer, static_cast<int>(under), 2 * comm->rank() + i, 0); };
        EXPECT_EQ(load(target, peer, 0), sent(0)) << label(under);
        EXPECT_EQ(load(target, beyond + peer, 0), sent(1)) << label(under);
      }
    }
  });
}

TEST(Window, FallsBackToMpiWhereSharedMemoryIsTooSmall) {
  on_every_rank([] {
    WindowOptions options;
    // Only rank 0 of the host is asked; the others would say there is room.
    options.room = [] { return session()->rank() == 0 ? int64_t{5} << 20 : int64_t{1} << 50; };
    const WindowOrMpi made = make_window_communicator(session()->world(), kSizes, options);
    EXPECT_NE(made.fallback.find("shared memory (/dev/shm) has 5 MiB free where"), std::string::npos) << made.fallback;
    RandomExchange(*made.communicator, {5}).verify();
  });
}

TEST(Window, TakesTheRoomThatItSays) {
  on_every_rank([] {
    const int64_t exact = session()->size() * (window_bytes(kSizes, session()->size()) + (int64_t{8} << 20));
    WindowOptions options;
    options.room = [&] { return exact; };
    EXPECT_EQ(make_window_communicator(session()->world(), kSizes, options).fallback, "");
    options.room = [&] { return exact - 1; };
    EXPECT_NE(make_window_communicator(session()->world(), kSizes, options).fallback, "");
  });
}

TEST(Window, NeedsSizes) {
  on_every_rank([] {
    const WindowOrMpi made = make_window_communicator(session()->world(), {});
    EXPECT_NE(made.fallback.find("no outbox sizes"), std::string::npos) << made.fallback;
    RandomExchange(*made.communicator, {5}).verify();
  });
}

TEST(Window, RefusesDifferentSizes) {
  if (session()->size() < 2) return;
  on_every_rank([] {
    const OutboxSizes sizes{4096 * (session()->rank() + 1), 4096};
    EXPECT_THROW(make_window_communicator(session()->world(), sizes), InternalError);
  });
}

TEST(Make, ChoosesByNameAndSaysWhy) {
  on_every_rank([] {
    TransportOptions options;
    options.sizes = kSizes;
    const bool alone = session()->size() == 1;
    const auto sentence = [&](Transport transport) {
      options.transport = transport;
      const Made made = make_communicator(*session(), options);
      EXPECT_EQ(made.communicator->size(), session()->size());
      return made.sentence.substr(0, made.sentence.find(':'));
    };
    EXPECT_EQ(sentence(Transport::kMpiPairwise), alone ? "transport SELF" : "transport MPI_PAIRWISE");
    EXPECT_EQ(sentence(Transport::kTwoLevel), alone ? "transport SELF" : "transport WINDOW") << "one host";
    EXPECT_EQ(sentence(Transport::kWindow), alone ? "transport SELF" : "transport WINDOW");
    EXPECT_EQ(sentence(Transport::kMpi), alone ? "transport SELF" : "transport MPI");
    options.window.room = [] { return int64_t{0}; };
    EXPECT_EQ(sentence(Transport::kWindow), alone ? "transport SELF" : "transport MPI instead of WINDOW");
    EXPECT_EQ(sentence(Transport::kAuto), alone ? "transport SELF" : "transport MPI instead of WINDOW");
    options.transport = Transport::kSelf;
    if (!alone) {
      EXPECT_THROW(make_communicator(*session(), options), Error);
    }
  });
}

// Which transport AUTO takes depends on the machine's mood; that all ranks take one, and say what they measured, does not.
TEST(Make, AutoMeasuresAndAllRanksTakeTheSame) {
  if (session()->size() < 2) return;  // nothing is measured
  on_every_rank([] {
    TransportOptions options;
    options.sizes = kSizes;
    const Made made = make_communicator(*session(), options);
    std::vector<char> words(1024, 0);
    std::copy_n(made.sentence.begin(), std::min(made.sentence.size(), words.size()), words.begin());
    std::vector<char> of_rank_0 = words;
    made.communicator->broadcast({"sentence", -1}, Tensor(of_rank_0.data(), Dtype::kI32, {256}), 0);
    EXPECT_EQ(words, of_rank_0) << made.sentence;
    EXPECT_NE(made.sentence.find("KiB a pair took WINDOW "), std::string::npos) << made.sentence;
    EXPECT_NE(made.sentence.find(" us, MPI "), std::string::npos) << made.sentence;
    RandomExchange(*made.communicator, {77}).verify();
  });
}

// A dense model's sums travel, and no rows do.
TEST(Make, AutoMeasuresWhereOnlyBucketsHaveRoom) {
  on_every_rank([] {
    for (const OutboxSizes sizes : {OutboxSizes{0, int64_t{1} << 20}, OutboxSizes{0, 4}, OutboxSizes{}}) {
      TransportOptions options;
      options.sizes = sizes;
      const Made made = make_communicator(*session(), options);
      EXPECT_EQ(made.communicator->size(), session()->size()) << made.sentence;
    }
  });
}

TEST(Make, WrapsTheTransportInAnEmulatedLink) {
  on_every_rank([] {
    const LinkFileOnDisk file({{{1e-6, 1e10}, {2e-6, 1e9}}, 2});
    TransportOptions options;
    options.sizes = kSizes;
    options.transport = Transport::kTwoLevel;
    options.emulated_link = session()->rank() == 0 || session()->size() == 1 ? file.path : "/nowhere";
    if (session()->size() == 1) options.emulated_link = "";
    const Made made = make_communicator(*session(), options);
    const std::vector<std::string> words = {"transport SELF", "transport WINDOW", "transport TWO_LEVEL: 3 ranks on 2 hosts",
                                            "transport TWO_LEVEL: 4 ranks on 2 hosts"};
    EXPECT_EQ(made.sentence.find(words[static_cast<size_t>(session()->size()) - 1]), 0u) << made.sentence;
    if (session()->size() > 1) {
      EXPECT_NE(made.sentence.find("; emulated link: 1 us and 10 GB/s within"), std::string::npos) << made.sentence;
    }
    RandomExchange(*made.communicator, {78}).verify();
  });
}

int64_t on_clock() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

// From the first rank's start to the last one's end: a busy machine makes it longer, nothing makes it shorter.
TEST(EmulatedLink, NeverTakesLessThanTheModelSays) {
  on_every_rank([] {
    constexpr LinkModel kModel{{2e-3, 1e8}, {3e-3, 1e7}};
    const std::unique_ptr<Communicator> comm = make_emulated(kSizes, kModel);
    const ExchangeKind kind{91, OutboxUse::kExchange, Dtype::kF64, 8, 6, Matrix::kHotRank};
    std::array<int64_t, 2> times = {-on_clock(), 0};
    RandomExchange exchange(*comm, kind);
    comm->wait(exchange.event());
    times[1] = on_clock();
    exchange.verify();
    comm->reduce({"times", -1}, times, Reduction::kMax);
    std::vector<int64_t> bytes;
    for (const int64_t rows : exchange.counts()) bytes.push_back(rows * 64);
    EXPECT_GE(static_cast<double>(times[0] + times[1]) / 1e9, seconds(kModel, pretended_hosts(), bytes) - 1e-6);
  });
}

TEST(Session, WarnsAndYieldsWithMoreRanksThanCores) {
  const Host& host = session()->host();
  EXPECT_EQ(host.ranks, session()->size());
  EXPECT_EQ(session()->warning().has_value(), host.ranks > host.cores);
  const char* yield = std::getenv("OMPI_MCA_mpi_yield_when_idle");
  if (host.crowded()) {
    EXPECT_STREQ(yield, "1");
  }
}

// The seed of a run decides the bits, never the transport.
TEST(Transports, DeliverTheSameBits) {
  on_every_rank([] {
    for (const Under under : {Under::kMpi, Under::kMpiPairwise, Under::kWindow, Under::kTwoLevel}) {
      const std::unique_ptr<Communicator> comm = make(under, kSizes);
      for (uint64_t seed = 300; seed < 340; ++seed)
        RandomExchange(*comm, {seed, OutboxUse::kExchange, Dtype::kF64, 3, 40, static_cast<Matrix>(seed % kMatrices)}).verify();
    }
  });
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return switchyard::run_tests_on_every_rank();
}
