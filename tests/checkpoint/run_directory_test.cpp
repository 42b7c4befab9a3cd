#include "src/checkpoint/run_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/checkpoint/checkpoint_helper.h"

namespace switchyard {
namespace {

void expect_usage_error(const std::function<void()>& action, const std::string& part) {
  try {
    action();
    FAIL() << "no error, where one with '" << part << "' was expected";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_THAT(error.what(), ::testing::HasSubstr(part));
  }
}

TEST(RunDirectory, IsMadeWithItsParents) {
  const Scratch scratch;
  const RunDirectory run(scratch.path("a/b/c"), false, 0);
  EXPECT_TRUE(std::filesystem::is_directory(scratch.path("a/b/c")));
  EXPECT_FALSE(run.has_checkpoints());
  EXPECT_EQ(run.read_config(), "");
}

TEST(RunDirectory, TwoRunsInOneDirectoryAreRefused) {
  const Scratch scratch;
  const auto first = std::make_unique<RunDirectory>(scratch.path(), false, 0);
  expect_usage_error([&] { RunDirectory(scratch.path(), false, 0); }, "is in use by another run (process " + std::to_string(::getpid()));
  expect_usage_error([&] { RunDirectory(scratch.path(), true, 0.1); }, "is in use by another run");
}

TEST(RunDirectory, TheLockGoesWithItsHolder) {
  const Scratch scratch;
  { const RunDirectory first(scratch.path(), false, 0); }
  EXPECT_NO_THROW(RunDirectory(scratch.path(), false, 0)) << "an empty run directory may be taken again";
}

TEST(RunDirectory, TheLockOfAKilledProcessIsFree) {
  const Scratch scratch;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const RunDirectory run(scratch.path(), false, 0);
    [[maybe_unused]] const auto told = ::write(ready[1], "x", 1);
    ::pause();
    ::_exit(0);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  expect_usage_error([&] { RunDirectory(scratch.path(), false, 0); }, "(process " + std::to_string(child));
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_NO_THROW(RunDirectory(scratch.path(), false, 0));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(RunDirectory, ARunIsNotOverwrittenUnlessItIsResumed) {
  for (const char* trace : {"config.textproto", "metrics.jsonl"}) {
    const Scratch scratch;
    write_file(scratch.path(trace), "");
    expect_usage_error([&] { RunDirectory(scratch.path(), false, 0); }, "already holds a run; continue it with --resume, choose another with --run");
    EXPECT_NO_THROW(RunDirectory(scratch.path(), true, 0));
  }
  const Scratch scratch;
  save_one(scratch.path(), 3, 1);
  expect_usage_error([&] { RunDirectory(scratch.path(), false, 0); }, "already holds a run");
  EXPECT_TRUE(RunDirectory(scratch.path(), true, 0).has_checkpoints());
}

TEST(RunDirectory, LeftoversOfACrashAreRemovedAndNothingElse) {
  const Scratch scratch;
  save_one(scratch.path(), 3, 1);
  for (const char* name : {".tmp-step-000000004-0a", ".trash-step-000000001", ".damaged-step-000000002-0", "events"}) {
    std::filesystem::create_directory(scratch.path(name));
    write_file(scratch.path(name) + "/file", "x");
  }
  write_file(scratch.path(".tmp-metrics.jsonl"), "x");
  std::filesystem::create_directory_symlink(scratch.path("events"), scratch.path(".tmp-link"));
  const RunDirectory run(scratch.path(), true, 0);
  EXPECT_THAT(names_in(scratch.path()), ::testing::ElementsAre(".damaged-step-000000002-0", "events", "run.lock", "step-000000003"));
  EXPECT_EQ(read_file(scratch.path("events/file")), "x") << "a link was followed";
}

TEST(RunDirectory, TheConfigurationIsReplacedAsAWhole) {
  const Scratch scratch;
  RunDirectory run(scratch.path(), false, 0);
  run.store_config("a: 1\n");
  run.store_config("b: 2\n");
  EXPECT_EQ(run.read_config(), "b: 2\n");
  EXPECT_THAT(names_in(scratch.path()), ::testing::ElementsAre("config.textproto", "run.lock"));
}

class Metrics : public ::testing::Test {
 protected:
  std::string cut(const std::string& content, int64_t step) {
    write_file(scratch_.path("metrics.jsonl"), content);
    RunDirectory(scratch_.path(), true, 0).cut_metrics(step);
    return read_file(scratch_.path("metrics.jsonl"));
  }
  Scratch scratch_;
  const std::string lines_ = "{\"step\":1,\"loss\":2}\n{\"loss\":1,\"step\":3}\n{\"step\":5}\n";
};

TEST_F(Metrics, AreCutBackToTheResumedStep) {
  EXPECT_EQ(cut(lines_, 5), lines_);
  EXPECT_EQ(cut(lines_, 4), "{\"step\":1,\"loss\":2}\n{\"loss\":1,\"step\":3}\n");
  EXPECT_EQ(cut(lines_, 3), "{\"step\":1,\"loss\":2}\n{\"loss\":1,\"step\":3}\n");
  EXPECT_EQ(cut(lines_, 0), "");
  EXPECT_EQ(cut("", 7), "");
}

TEST_F(Metrics, AnUnfinishedOrForeignLineEndsThem) {
  EXPECT_EQ(cut(lines_ + "{\"step\":6,\"lo", 9), lines_);
  EXPECT_EQ(cut(lines_ + "rubbish\n{\"step\":6}\n", 9), lines_);
  EXPECT_EQ(cut(lines_ + "{\"step\":-6}\n", 9), lines_);
  EXPECT_EQ(cut(lines_ + "[7]\n", 9), lines_);
  EXPECT_EQ(cut(lines_ + std::string("\0\0\0\n", 4), 9), lines_) << "zeros, as a crash leaves them";
}

TEST_F(Metrics, LongFilesAreCutInPieces) {
  std::string content, expected;
  for (int64_t step = 1; step <= 30000; ++step) {
    content += "{\"step\":" + std::to_string(step) + ",\"padding\":\"" + std::string(static_cast<size_t>(step % 97), 'p') + "\"}\n";
    if (step == 20000) expected = content;
  }
  EXPECT_EQ(cut(content, 20000), expected);
}

TEST_F(Metrics, AreNotThereBeforeTheFirstLine) {
  RunDirectory(scratch_.path(), true, 0).cut_metrics(0);
  EXPECT_FALSE(std::filesystem::exists(scratch_.path("metrics.jsonl")));
}

TEST(OpenRun, OnlyRankZeroHoldsTheDirectoryAndAllAgree) {
  const Scratch scratch;
  run_ranks(3, [&](Communicator& comm) {
    const auto run = open_run(comm, scratch.path(), false, 0);
    EXPECT_EQ(run != nullptr, comm.rank() == 0);
    comm.barrier({"test"});
  });
  const RunDirectory holder(scratch.path(), false, 0);
  const std::vector<Error> errors = errors_of_ranks(3, [&](Communicator& comm) { open_run(comm, scratch.path(), false, 0); });
  EXPECT_EQ(errors.size(), 3u);
  for (const Error& error : errors) EXPECT_EQ(error.code(), ExitCode::kUsage);
}

}  // namespace
}  // namespace switchyard
