// A hang is told once, names every rank and where it is, and ends every rank.
#include "comm/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <future>
#include <mutex>
#include <string>
#include <vector>

#include "comm/watchdog_report.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;

RankState state(const char* operation, const char* name, int layer, uint64_t number, bool waiting, double seconds) {
  RankState result;
  std::string(operation).copy(result.operation, sizeof result.operation - 1);
  std::string(name).copy(result.name, sizeof result.name - 1);
  result.layer = layer;
  result.number = number;
  result.waiting = waiting ? 1 : 0;
  result.seconds = seconds;
  return result;
}

TEST(HangReport, TellsOfTheSilentFirstThenOfThoseOutsideThenOfThoseThatWait) {
  const RankState dispatch = state("all_to_all", "dispatch", 3, 812, true, 30);
  const std::vector<std::optional<RankState>> ranks = {dispatch, std::nullopt, state("reduce", "end of step", -1, 811, false, 31.5),
                                                       dispatch, dispatch,     state("wait", "combine", 3, 814, true, 29.25)};
  EXPECT_EQ(
      hang_report(ranks, 3600),
      "the ranks hang: rank 1 does not answer: stopped, ended, or not to be reached; rank 2 is in no collective since 00:59:29 UTC (31.5 s), the last was "
      "reduce 'end of step' (collective 811); ranks 0, 3-4 wait in all_to_all 'dispatch' of layer 3 (collective 812) since 00:59:30 UTC (30.0 s); rank 5 "
      "waits in wait 'combine' of layer 3 (collective 814) since 00:59:31 UTC (29.2 s)");
}

TEST(HangReport, OfRanksAtOnePlaceGivesTheLongestTime) {
  const std::vector<std::optional<RankState>> ranks = {state("barrier", "save", -1, 5, true, 10), state("barrier", "save", -1, 5, true, 12)};
  EXPECT_EQ(hang_report(ranks, 0), "the ranks hang: ranks 0-1 wait in barrier 'save' (collective 5) since 23:59:48 UTC (12.0 s)");
}

TEST(HangReport, StaysShortHoweverManyRanksThereAre) {
  std::vector<std::optional<RankState>> ranks;
  for (int rank = 0; rank < 4096; ++rank) {
    ranks.push_back(rank % 2 == 0 ? std::optional(state("barrier", "save", -1, 5, true, 10)) : std::nullopt);
  }
  const std::string text = hang_report(ranks, 0);
  EXPECT_THAT(text, HasSubstr("ranks 1, 3, 5"));
  EXPECT_THAT(text, HasSubstr(" and 2032 more do not answer"));
  EXPECT_LT(text.size(), 500U);
}

// Ranks as threads, each with a watchdog; what the watchdogs say and which of them end.
struct Watched {
  std::mutex mutex;
  std::vector<std::string> sentences;
  std::vector<int> left;
};

WatchdogOptions options(Watched& watched, ThreadWorld& world, int rank, std::promise<void>& told) {
  return {.deadline = milliseconds(100),
          .patience = milliseconds(2000),
          .say =
              [&watched](const std::string& sentence) {
                const std::lock_guard lock(watched.mutex);
                watched.sentences.push_back(sentence);
              },
          .leave =
              [&, rank] {
                {
                  const std::lock_guard lock(watched.mutex);
                  watched.left.push_back(rank);
                }
                world.fail(rank, "the watchdog ended it");
                told.set_value();
              }};
}

// Runs `body` on ranks whose watchdogs end them; every rank waits at its end until its own watchdog has.
void hang(int size, Watched& watched, const std::function<void(Communicator&)>& body) {
  ThreadWorld world(size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      std::unique_ptr<Communicator> comm = world.communicator(rank);
      std::promise<void> told;
      Watchdog watchdog(*comm, options(watched, world, rank, told));
      comm = watchdog.watch(std::move(comm));
      try {
        body(*comm);
      } catch (const PeerError&) {  // world.fail ends the waiting
      }
      EXPECT_EQ(told.get_future().wait_for(std::chrono::seconds(60)), std::future_status::ready) << "rank " << rank << " was not ended";
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::sort(watched.left.begin(), watched.left.end());
}

TEST(Watchdog, NamesARankThatStaysAwayAndEndsAll) {
  Watched watched;
  hang(3, watched, [](Communicator& comm) {
    comm.barrier({"start", -1});
    if (comm.rank() != 1) comm.barrier({"save", -1});
  });
  EXPECT_THAT(watched.left, testing::ElementsAre(0, 1, 2)) << "each rank ends, also the one that waits for nothing";
  ASSERT_EQ(watched.sentences.size(), 1U) << "one rank tells it for all";
  EXPECT_THAT(watched.sentences[0], AllOf(HasSubstr("rank 1 is in no collective since "), HasSubstr("the last was barrier 'start' (collective 1)"),
                                          HasSubstr("ranks 0, 2 wait in barrier 'save' (collective 2) since ")));
}

TEST(Watchdog, NamesCallAndLayerOfATransferThatIsWaitedFor) {
  Watched watched;
  hang(2, watched, [](Communicator& comm) {
    if (comm.rank() == 1) return;
    float value = 0;
    const Tensor outbox = comm.outbox(OutboxUse::kExchange, Dtype::kF32, 1, 1);
    const Segment segment{1, 0, 1};
    comm.wait(comm.all_to_all({"dispatch", 4}, outbox, {&segment, 1}, Tensor(&value, Dtype::kF32, {1, 1}), {&segment, 1}, {}));
  });
  ASSERT_EQ(watched.sentences.size(), 1U);
  EXPECT_THAT(watched.sentences[0], AllOf(HasSubstr("rank 1 is in no collective since "), HasSubstr("there was none before"),
                                          HasSubstr("rank 0 waits in wait 'dispatch' of layer 4 (collective 3) since ")));
}

TEST(Watchdog, SeesInsideSplitGroups) {
  Watched watched;
  std::array<std::unique_ptr<Communicator>, 4> parts;  // a part that ends early would be told of by the thread world itself
  hang(4, watched, [&](Communicator& comm) {
    std::unique_ptr<Communicator>& part = parts[static_cast<size_t>(comm.rank())];
    part = comm.split(comm.rank() % 2, 0);
    if (comm.rank() == 3) part->barrier({"half", 2});
  });
  ASSERT_EQ(watched.sentences.size(), 1U);
  EXPECT_THAT(watched.sentences[0], AllOf(HasSubstr("ranks 0-2 are in no collective"), HasSubstr("rank 3 waits in barrier 'half' of layer 2")));
}

TEST(Watchdog, SaysWhoDoesNotAnswer) {
  ThreadWorld world(2);
  Watched watched;
  std::promise<void> told, never;
  std::thread stopped([&] {
    std::unique_ptr<Communicator> comm = world.communicator(1);
    { const Watchdog watchdog(*comm, options(watched, world, 1, never)); }
    told.get_future().wait();
  });
  std::unique_ptr<Communicator> comm = world.communicator(0);
  WatchdogOptions mine = options(watched, world, 0, told);
  mine.patience = milliseconds(50);
  Watchdog watchdog(*comm, mine);
  comm = watchdog.watch(std::move(comm));
  EXPECT_THROW(comm->barrier({"save", -1}), Error);
  stopped.join();
  ASSERT_EQ(watched.sentences.size(), 1U);
  EXPECT_THAT(watched.sentences[0],
              AllOf(HasSubstr("rank 1 does not answer: stopped, ended, or not to be reached"), HasSubstr("rank 0 waits in barrier 'save'")));
}

TEST(Watchdog, OfAWorldOfOneIsNoThread) {
  run_ranks(1, [](Communicator& comm) {
    Watchdog watchdog(comm, {.deadline = milliseconds(1), .patience = milliseconds(1), .say = [](const std::string&) {}, .leave = {}});
    std::unique_ptr<Communicator> inner = make_checked_communicator(comm.split(0, 0));
    Communicator* const before = inner.get();
    EXPECT_EQ(watchdog.watch(std::move(inner)).get(), before) << "nothing can wait for anybody";
  });
}

}  // namespace
}  // namespace switchyard
