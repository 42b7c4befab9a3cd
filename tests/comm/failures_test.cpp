// Ranks that disagree, fail or stay away: every one ends with a sentence, none hangs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/ranks.h"

namespace switchyard {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// What a rank calls. Operands fit a world of any size.
struct Step {
  const char* name;
  RankBody run;
};

void exchange(Communicator& comm, Call call, std::span<const Segment> send, std::span<const Segment> receive) {
  float values[8] = {};
  const Tensor outbox = comm.outbox(OutboxUse::kExchange, Dtype::kF32, 8, 1);
  comm.wait(comm.all_to_all(call, outbox, send, Tensor(values, Dtype::kF32, {8, 1}), receive, {}));
}

void exchange_one_row_each(Communicator& comm, Call call) {
  std::vector<Segment> segments;
  for (int peer = 0; peer < comm.size(); ++peer) segments.push_back({peer, peer, 1});
  exchange(comm, call, segments, segments);
}

const std::vector<Step>& steps() {
  static const std::vector<Step> known = {
      {"barrier",
       [](Communicator& comm) {
         comm.barrier({"save", -1});
       }},
      {"broadcast",
       [](Communicator& comm) {
         double value = 0;
         comm.broadcast({"configuration", -1}, Tensor(&value, Dtype::kF64, {1}), 0);
       }},
      {"all_gather",
       [](Communicator& comm) {
         const std::vector<int64_t> rows(static_cast<size_t>(comm.size()), 1);
         std::vector<double> all(rows.size());
         double value = 0;
         comm.all_gather({"norms", 2}, Tensor(&value, Dtype::kF64, {1}), Tensor(all.data(), Dtype::kF64, {comm.size()}), rows);
       }},
      {"reduce",
       [](Communicator& comm) {
         int64_t value = 0;
         comm.reduce({"counts", 1}, {&value, 1}, Reduction::kSum);
       }},
      {"split", [](Communicator& comm) { comm.split(0, 0); }},
      {"all_to_all",
       [](Communicator& comm) {
         exchange_one_row_each(comm, {"dispatch", 3});
       }},
  };
  return known;
}

// The failures of a run in which every rank must fail.
std::vector<RankFailure> all_failures(int size, const RankBody& body, const RankOptions& options = {}) {
  std::vector<RankFailure> failures;
  for (const auto& failure : failures_of_ranks(size, body, options)) {
    if (failure) failures.push_back(*failure);
  }
  EXPECT_EQ(static_cast<int>(failures.size()), size) << "a rank returned where all had to fail";
  return failures;
}

class Failures : public testing::TestWithParam<std::tuple<size_t, bool>> {
 protected:
  const Step& step() const { return steps()[std::get<0>(GetParam())]; }
  RankOptions options() const { return {.checked = std::get<1>(GetParam())}; }
};

TEST_P(Failures, OfOneRankEndTheOthers) {
  const auto failures = all_failures(
      4,
      [&](Communicator& comm) {
        step().run(comm);
        if (comm.rank() == 2) throw Error(ExitCode::kData, "the file is torn");
        step().run(comm);
      },
      options());
  for (const RankFailure& failure : failures) {
    EXPECT_EQ(failure.because_of_peer, failure.rank != 2) << failure.sentence;
    if (failure.rank == 2) {
      EXPECT_EQ(failure.code, ExitCode::kData);
    } else {
      EXPECT_THAT(failure.sentence, HasSubstr("rank 2 failed: the file is torn"));
    }
  }
}

TEST_P(Failures, ByLeavingEarlyEndTheOthers) {
  const auto failures = failures_of_ranks(
      3,
      [&](Communicator& comm) {
        step().run(comm);
        if (comm.rank() != 1) step().run(comm);
      },
      options());
  EXPECT_FALSE(failures[1]);
  for (const int rank : {0, 2}) {
    ASSERT_TRUE(failures[static_cast<size_t>(rank)]);
    EXPECT_THAT(failures[static_cast<size_t>(rank)]->sentence, HasSubstr("for rank 1, which has left"));
  }
}

INSTANTIATE_TEST_SUITE_P(Everywhere, Failures, testing::Combine(testing::Range(size_t{0}, size_t{6}), testing::Bool()), [](const auto& parameters) {
  return std::string(steps()[std::get<0>(parameters.param)].name) + (std::get<1>(parameters.param) ? "_checked" : "");
});

TEST(RunRanks, ThrowsTheFirstCauseWithItsRank) {
  try {
    run_ranks(4, [](Communicator& comm) {
      if (comm.rank() == 3) throw Error(ExitCode::kInputOutput, "the disk is full");
      comm.barrier({"save", -1});
    });
    FAIL() << "rank 3 failed, yet the run passed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInputOutput);
    EXPECT_STREQ(error.what(), "rank 3: the disk is full");
  }
}

TEST(ThreadWorld, NamesEveryRankWhereItWaitsAfterTheDeadline) {
  const auto failures = all_failures(2,
                                     [](Communicator& comm) {
                                       if (comm.rank() == 0) comm.barrier({"save", -1});
                                       if (comm.rank() == 1) exchange_one_row_each(comm, {"dispatch", 3});
                                     },
                                     {.deadline = std::chrono::milliseconds(200), .checked = false});
  int causes = 0;
  for (const RankFailure& failure : failures) {
    EXPECT_THAT(failure.sentence,
                AllOf(HasSubstr("rank 0 waits in barrier 'save' of layer -1"), HasSubstr("rank 1 waits in all_to_all 'dispatch' of layer 3")));
    causes += failure.code == ExitCode::kHang && !failure.because_of_peer ? 1 : 0;
  }
  EXPECT_EQ(causes, 1) << "the first that gives up ends the other";
}

TEST(ThreadWorld, NamesRanksOfTheWorldInASplitGroup) {
  const auto failures = all_failures(4,
                                     [](Communicator& comm) {
                                       const std::unique_ptr<Communicator> odd = comm.split(comm.rank() % 2, 0);
                                       if (comm.rank() == 3) throw Error(ExitCode::kData, "bad");
                                       odd->barrier({"group", 0});
                                       comm.barrier({"world", 1});
                                     },
                                     {.checked = false});
  EXPECT_THAT(failures[1].sentence, AllOf(HasSubstr("rank 1 waits in barrier 'group' of layer 0"), HasSubstr("rank 3")));
  EXPECT_THAT(failures[0].sentence, HasSubstr("and leaves, because rank "));
}

TEST(ThreadWorld, TellsTheReceiverWhichCountIsWrong) {
  const auto failures = failures_of_ranks(2,
                                          [](Communicator& comm) {
                                            const std::vector<Segment> three = {{1 - comm.rank(), 0, 3}};
                                            const std::vector<Segment> two = {{1 - comm.rank(), 0, 2}};
                                            exchange(comm, {"combine", 4}, three, comm.rank() == 1 ? two : three);
                                          },
                                          {.checked = false});
  ASSERT_TRUE(failures[1]);
  EXPECT_THAT(failures[1]->sentence, HasSubstr("rank 0 sends 3 rows of 4 bytes in all_to_all 'combine' of layer 4 to rank 1, which expects 2 rows"));
}

// Every rank of a checked world must throw this sentence.
void expect_complaint(int size, const RankBody& body, const std::string& sentence) {
  for (const RankFailure& failure : all_failures(size, body)) {
    EXPECT_EQ(failure.sentence, sentence) << "on rank " << failure.rank;
    EXPECT_FALSE(failure.because_of_peer) << "the checker tells every rank";
  }
}

TEST(Checked, NamesOperationsThatDiffer) {
  expect_complaint(
      3,
      [](Communicator& comm) {
        comm.barrier({"start", -1});
        if (comm.rank() < 2) comm.barrier({"save", -1});
        if (comm.rank() == 2) exchange_one_row_each(comm, {"dispatch", 3});
      },
      "rank 2 issues outbox 'outbox' of layer -1 (exchange, rows of 1 F32) as operation 2 where rank 0 issues barrier 'save' of layer -1 as operation 2: every "
      "rank must issue the same operations in one order");
}

TEST(Checked, NamesCallsAndLayersThatDiffer) {
  expect_complaint(
      2,
      [](Communicator& comm) {
        comm.barrier({comm.rank() == 0 ? "dispatch" : "combine", comm.rank()});
      },
      "rank 1 issues barrier 'combine' of layer 1 as operation 1 where rank 0 issues barrier 'dispatch' of layer 0 as operation 1: every rank must issue the "
      "same operations in one order");
}

TEST(Checked, NamesDtypesThatDiffer) {
  expect_complaint(
      2,
      [](Communicator& comm) {
        double values[2] = {};
        comm.broadcast({"table", 0}, comm.rank() == 0 ? Tensor(values, Dtype::kF64, {2}) : Tensor(values, Dtype::kF32, {2}), 0);
      },
      "rank 1 issues broadcast 'table' of layer 0 (2 rows of 1 F32 from root 0) as operation 1 where rank 0 issues broadcast 'table' of layer 0 (2 rows of 1 "
      "F64 from root 0) as operation 1: every rank must issue the same operations in one order");
}

TEST(Checked, NamesRowWidthsThatDiffer) {
  expect_complaint(
      2, [](Communicator& comm) { comm.outbox(OutboxUse::kBucket, Dtype::kBF16, 4, 3 + comm.rank()); },
      "rank 1 issues outbox 'outbox' of layer -1 (bucket, rows of 4 BF16) as operation 1 where rank 0 issues outbox 'outbox' of layer -1 (bucket, rows of 3 "
      "BF16) as operation 1: every rank must issue the same operations in one order");
}

TEST(Checked, NamesReductionsThatDiffer) {
  expect_complaint(
      2,
      [](Communicator& comm) {
        int64_t value = 0;
        comm.reduce({"flag", -1}, {&value, 1}, comm.rank() == 0 ? Reduction::kSum : Reduction::kOr);
      },
      "rank 1 issues reduce 'flag' of layer -1 (1 numbers, or) as operation 1 where rank 0 issues reduce 'flag' of layer -1 (1 numbers, sum) as operation 1: "
      "every rank must issue the same operations in one order");
}

TEST(Checked, NamesCountsThatAreNoTransposes) {
  expect_complaint(
      3,
      [](Communicator& comm) {
        std::vector<Segment> send, receive;
        if (comm.rank() == 0) send = {{2, 0, 3}, {2, 5, 2}};
        if (comm.rank() == 2) receive = {{0, 0, 4}};
        exchange(comm, {"dispatch", 7}, send, receive);
      },
      "rank 0 sends 5 rows to rank 2 in all_to_all 'dispatch' of layer 7 (rows of 1 F32) as operation 2, but rank 2 expects 4: both must derive the counts "
      "from "
      "one matrix");
}

TEST(Checked, NamesRowsThatAnAllGatherLacks) {
  expect_complaint(
      2,
      [](Communicator& comm) {
        const std::vector<int64_t> rows = {1, comm.rank() == 0 ? 2 : 1};
        double all[3] = {};
        double mine = 0;
        comm.all_gather({"norms", 1}, Tensor(&mine, Dtype::kF64, {1}), Tensor(all, Dtype::kF64, {rows[0] + rows[1]}), rows);
      },
      "rank 0 expects 2 rows from rank 1 in all_gather 'norms' of layer 1 (rows of 1 F64) as operation 1, which brings 1");
}

TEST(Checked, SeesInsideSplitGroups) {
  const auto failures = all_failures(4, [](Communicator& comm) {
    const std::unique_ptr<Communicator> part = comm.split(comm.rank() / 2, 0);
    part->barrier({comm.rank() % 2 == 0 ? "even" : "odd", 0});
  });
  EXPECT_THAT(failures[0].sentence, HasSubstr("rank 1 issues barrier 'odd' of layer 0"));
}

// Segments that cannot be: each a programming error that must not become a write somewhere else.
TEST(Segments, OutsideTheirTensorsAreRefused) {
  const Segment wrong[] = {{1, 0, 1}, {-1, 0, 1}, {0, 7, 2}, {0, -1, 1}, {0, 0, -1}, {0, int64_t{1} << 62, int64_t{1} << 62}};
  for (const Segment& segment : wrong) {
    EXPECT_THROW(run_ranks(1,
                           [&](Communicator& comm) {
                             exchange(comm, {"dispatch", 0}, {&segment, 1}, {&segment, 1});
                           },
                           {.checked = false}),
                 Error)
        << "peer " << segment.peer << ", row " << segment.first_row << ", rows " << segment.rows;
  }
}

}  // namespace
}  // namespace switchyard
