// The transports between processes: started by mpirun with 1 to 4 ranks (label mpi). Rank 0 reports, the others print
// only what failed on them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include "comm/agree.h"
#include "comm/checked.h"
#include "comm/make.h"
#include "tests/comm/exchanges.h"
#include "tests/comm/transport_cases.h"

namespace switchyard {
namespace {

// The one session of this program, made by main.
const MpiSession*& session() {
  static const MpiSession* the_session = nullptr;
  return the_session;
}

// Runs a body that all ranks run. A rank that throws would leave the others waiting: it ends the job.
template <class Body>
void on_every_rank(Body body) {
  try {
    body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d failed in %s: %s\n", session()->rank(), testing::UnitTest::GetInstance()->current_test_info()->name(), error.what());
    session()->abort(ExitCode::kFailure);
  }
}

enum class Under { kMpi, kMpiInPieces, kWindow, kCheckedWindow };

std::string label(Under under) {
  switch (under) {
    case Under::kMpi: return "mpi";
    case Under::kMpiInPieces: return "mpi_in_pieces";
    case Under::kWindow: return "window";
    case Under::kCheckedWindow: return "checked_window";
  }
  return "?";
}

std::unique_ptr<Communicator> make_window(OutboxSizes sizes) {
  WindowOrMpi made = make_window_communicator(session()->world(), sizes);
  EXPECT_EQ(made.fallback, "");
  return std::move(made.communicator);
}

std::unique_ptr<Communicator> make(Under under, OutboxSizes sizes) {
  switch (under) {
    case Under::kMpi: return make_mpi_communicator(session()->world(), sizes);
    case Under::kMpiInPieces: return make_mpi_communicator(session()->world(), sizes, 48);  // messages of a few rows
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

INSTANTIATE_TEST_SUITE_P(Mpi, Transports, testing::Combine(testing::Values(Under::kMpi, Under::kMpiInPieces), testing::ValuesIn(case_numbers(true))), label_of);
INSTANTIATE_TEST_SUITE_P(Window, Transports, testing::Combine(testing::Values(Under::kWindow, Under::kCheckedWindow), testing::ValuesIn(case_numbers(false))),
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
    for (const Under under : {Under::kMpi, Under::kWindow}) {
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
    } catch (const InternalError& error) {
      sentence = error.what();
    }
    for (const char* part : {"rank 1 issues reduce 'norm' of layer 4", "rank 0 issues barrier 'save' of layer -1"}) {
      EXPECT_NE(sentence.find(part), std::string::npos) << sentence;
    }
  });
}

// MPI counts and places rows with int. The tensor is not touched: every rank refuses before it calls MPI.
TEST(Mpi, RefusesRowsBeyondItsCounts) {
  if (session()->size() < 2) return;
  on_every_rank([] {
    const std::unique_ptr<Communicator> comm = make(Under::kMpi, {});
    const int64_t beyond = (int64_t{1} << 31) + 10;
    std::vector<int64_t> rows(static_cast<size_t>(comm->size()), 0);
    rows[0] = beyond;
    int32_t nothing = 0;
    try {
      const Tensor mine(&nothing, Dtype::kI32, {rows[static_cast<size_t>(comm->rank())], 1});
      comm->all_gather({"publish", 2}, mine, Tensor(&nothing, Dtype::kI32, {beyond, 1}), rows);
      ADD_FAILURE() << "rank " << comm->rank() << " went on with " << beyond << " rows";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(error.what()).find("2147483658 rows at once in 'publish' of layer 2"), std::string::npos) << error.what();
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
    EXPECT_EQ(sentence(Transport::kAuto), alone ? "transport SELF" : "transport WINDOW");
    EXPECT_EQ(sentence(Transport::kWindow), alone ? "transport SELF" : "transport WINDOW");
    EXPECT_EQ(sentence(Transport::kMpi), alone ? "transport SELF" : "transport MPI");
    options.window.room = [] { return int64_t{0}; };
    EXPECT_EQ(sentence(Transport::kAuto), alone ? "transport SELF" : "transport MPI instead of WINDOW");
    options.transport = Transport::kSelf;
    if (!alone) {
      EXPECT_THROW(make_communicator(*session(), options), Error);
    }
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
    for (const Under under : {Under::kMpi, Under::kWindow}) {
      const std::unique_ptr<Communicator> comm = make(under, kSizes);
      for (uint64_t seed = 300; seed < 340; ++seed) RandomExchange(*comm, {seed, OutboxUse::kExchange, Dtype::kF64, 3, 40}).verify();
    }
  });
}

// Prints failures only, and says which rank they are of.
class OtherRanks : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
    fmt::print(stderr, "rank {}: {}.{} failed at {}:{}\n{}\n", session()->rank(), test ? test->test_suite_name() : "", test ? test->name() : "",
               result.file_name() ? result.file_name() : "", result.line_number(), result.message());
  }
};

int run_tests() {
  if (session()->rank() != 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new OtherRanks);
  }
  int64_t failed = RUN_ALL_TESTS();
  make_mpi_communicator(session()->world(), {})->reduce({"result", -1}, {&failed, 1}, Reduction::kMax);
  return static_cast<int>(failed);
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const switchyard::MpiSession the_session;
  switchyard::session() = &the_session;
  return switchyard::run_tests();
}
