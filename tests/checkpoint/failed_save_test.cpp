// A save that fails, wherever it fails, leaves the older checkpoints and nothing else, and all ranks say the same.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <map>

#include "tests/checkpoint/checkpoint_helper.h"

namespace switchyard {
namespace {

enum class Kind { kMakeDirectory, kCreate, kReserve, kWrite, kSync, kClose, kRename };
constexpr Kind kKinds[] = {Kind::kMakeDirectory, Kind::kCreate, Kind::kReserve, Kind::kWrite, Kind::kSync, Kind::kClose, Kind::kRename};

// Fails the n-th call (from 0) of one kind with one error number. Counts all calls.
class Faulty : public FileCalls {
 public:
  Faulty() = default;
  Faulty(Kind kind, int nth, int number) : kind_(kind), nth_(nth), number_(number) {}

  int make_directory(int parent, const char* name) override { return fails(Kind::kMakeDirectory) ? -1 : FileCalls::make_directory(parent, name); }
  int create(int directory, const char* name) override { return fails(Kind::kCreate) ? -1 : FileCalls::create(directory, name); }
  int reserve(int file, int64_t bytes) override { return fails(Kind::kReserve) ? -1 : FileCalls::reserve(file, bytes); }
  int64_t write(int file, const void* data, size_t bytes) override {
    if (!fails(Kind::kWrite)) return FileCalls::write(file, data, bytes);
    if (number_ != 0) return -1;
    return FileCalls::write(file, data, (bytes + 1) / 2);  // a short write is no error
  }
  int sync(int file) override { return fails(Kind::kSync) ? -1 : FileCalls::sync(file); }
  int close(int file) override {
    const int result = FileCalls::close(file);
    return fails(Kind::kClose) ? -1 : result;
  }
  int rename(int directory, const char* from, const char* to, unsigned flags) override {
    return fails(Kind::kRename) ? -1 : FileCalls::rename(directory, from, to, flags);
  }

  int calls(Kind kind) const { return counts_.count(kind) == 0 ? 0 : counts_.at(kind); }

 private:
  bool fails(Kind kind) {
    const bool now = counts_[kind]++ == nth_ && kind == kind_;
    if (now) errno = number_;
    return now;
  }
  Kind kind_ = Kind::kWrite;
  int nth_ = -1;
  int number_ = 0;
  std::map<Kind, int> counts_;
};

// The weights of a test state on each rank, made once for many saves.
class States {
 public:
  explicit States(int ranks) {
    for (int rank = 0; rank < ranks; ++rank) {
      whole_.push_back(make_test_state(rank, ranks, 2));
      weights_.push_back(weights_of(whole_.back().state));
    }
  }
  int ranks() const { return static_cast<int>(weights_.size()); }
  const State& of(int rank) const { return weights_[static_cast<size_t>(rank)]; }

 private:
  std::vector<TestState> whole_;
  std::vector<State> weights_;
};

// Saves step 20 on all ranks, with `faulty` on the rank `where`.
std::vector<Error> save_with(const std::string& run, const States& states, int where, Faulty& faulty) {
  return errors_of_ranks(states.ranks(), [&](Communicator& comm) {
    SaveOptions options;
    options.buffer_bytes = 512 << 10;
    if (comm.rank() == where) options.calls = &faulty;
    save_checkpoint(comm, run, states.of(comm.rank()), test_info(20), options);
  });
}
std::vector<Error> save_with(const std::string& run, int ranks, int where, Faulty& faulty) { return save_with(run, States(ranks), where, faulty); }

class FailedSave : public ::testing::TestWithParam<int> {
 protected:
  FailedSave() {
    save_one(scratch_.path(), 10, 1);
    std::filesystem::resize_file(scratch_.path("step-000000010/shard-00000-of-00001.safetensors"), 4096);  // its size does not matter here
    before_ = snapshot(scratch_.path());
  }
  Scratch scratch_;
  std::vector<std::pair<std::string, std::string>> before_;
};

TEST_P(FailedSave, EveryCallOnEveryRankMayFail) {
  const int ranks = GetParam();
  const States states(ranks);
  for (int where = 0; where < ranks; ++where) {
    Faulty counting;
    {
      const Scratch other;
      ASSERT_TRUE(save_with(other.path(), states, where, counting).empty());
    }
    for (Kind kind : kKinds) {
      for (int nth = 0; nth < counting.calls(kind); ++nth) {
        Faulty faulty(kind, nth, kind == Kind::kReserve || kind == Kind::kWrite ? ENOSPC : EIO);
        const std::vector<Error> errors = save_with(scratch_.path(), states, where, faulty);
        const std::string what = "call " + std::to_string(nth) + " of kind " + std::to_string(static_cast<int>(kind)) + " on rank " + std::to_string(where);
        ASSERT_EQ(errors.size(), static_cast<size_t>(ranks)) << what << ": not all ranks failed";
        for (const Error& error : errors) {
          EXPECT_EQ(error.code(), ExitCode::kInputOutput) << what;
          EXPECT_STREQ(error.what(), errors[0].what()) << what;
          EXPECT_THAT(error.what(), ::testing::HasSubstr("step-000000020 was not saved")) << what;
        }
        EXPECT_EQ(snapshot(scratch_.path()), before_) << what << ": something is left, or the older checkpoint was touched";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, FailedSave, ::testing::Values(1, 2, 3));

TEST_F(FailedSave, AFailedSyncIsNotTriedAgain) {
  Faulty counting;
  {
    const Scratch other;
    save_with(other.path(), 1, 0, counting);
  }
  Faulty faulty(Kind::kSync, 1, EIO);  // 0 is the run directory, 1 the first file
  save_with(scratch_.path(), 1, 0, faulty);
  EXPECT_EQ(faulty.calls(Kind::kSync), 2) << "of " << counting.calls(Kind::kSync) << " in a save that succeeds";
}

TEST_F(FailedSave, ShortAndInterruptedWritesGoOn) {
  for (int number : {0, EINTR}) {
    const Scratch other;
    Faulty faulty(Kind::kWrite, 1, number);
    EXPECT_TRUE(save_with(other.path(), 2, 0, faulty).empty());
    EXPECT_NO_THROW(verify_checkpoint(other.path("step-000000020")));
  }
}

TEST_F(FailedSave, AFailedCommitOverTheSameStepLeavesTheOldOne) {
  const std::string old = save_one(scratch_.path(), 20, 1).state_digest;
  Faulty counting;
  ASSERT_TRUE(save_with(scratch_.path(), 2, 0, counting).empty());
  const std::string current = verify_checkpoint(scratch_.path("step-000000020"));
  EXPECT_NE(current, old);
  before_ = snapshot(scratch_.path());
  Faulty faulty(Kind::kSync, counting.calls(Kind::kSync) - 1, EIO);  // of the run directory, after the rename
  EXPECT_EQ(save_with(scratch_.path(), 2, 0, faulty).size(), 2u);
  EXPECT_EQ(snapshot(scratch_.path()), before_);
}

TEST_F(FailedSave, AFileSystemWithoutRenameFlagsIsServed) {
  Faulty faulty(Kind::kRename, 0, EINVAL);
  EXPECT_TRUE(save_with(scratch_.path(), 1, 0, faulty).empty());
  EXPECT_NO_THROW(verify_checkpoint(scratch_.path("step-000000020")));
}

TEST_F(FailedSave, AMissingRunDirectoryIsAnInputOutputError) {
  Faulty none;
  const std::vector<Error> errors = save_with(scratch_.path("missing"), 2, 0, none);
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_EQ(errors[1].code(), ExitCode::kInputOutput);
}

TEST_F(FailedSave, ALimitOnFileSizeActsLikeAFullDisk) {
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit limit{100000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  Faulty none;
  const std::vector<Error> errors = save_with(scratch_.path(), 2, 0, none);
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_EQ(errors[0].code(), ExitCode::kInputOutput);
  EXPECT_THAT(errors[0].what(), ::testing::HasSubstr("free some space"));
  EXPECT_EQ(snapshot(scratch_.path()), before_);
}

TEST_F(FailedSave, RetentionNeverFailsASaveThatIsCommitted) {
  save_one(scratch_.path(), 11, 1);
  Faulty counting;
  {
    const Scratch other;
    save_with(other.path(), 1, 0, counting);
  }
  Faulty faulty(Kind::kRename, counting.calls(Kind::kRename), EIO);  // the first after the commit: that of the retention
  const auto errors = errors_of_ranks(1, [&](Communicator& comm) {
    SaveOptions options;
    options.keep = 2;
    options.calls = &faulty;
    save_checkpoint(comm, scratch_.path(), make_test_state(0, 1, 2).state, test_info(20), options);
  });
  EXPECT_TRUE(errors.empty());
  EXPECT_THAT(list_checkpoints(scratch_.path()), ::testing::ElementsAre(20, 11, 10)) << "the next save tries again";
}

}  // namespace
}  // namespace switchyard
