// A checkpoint belongs to the model, not to the number of ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <mutex>
#include <set>

#include "src/checkpoint/plan.h"
#include "tests/checkpoint/checkpoint_helper.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

// True where every block that `rank` owns has the same bytes in both.
bool same_bytes(const State& a, const State& b, int rank) {
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[i].blocks.size(); ++j) {
      const StateBlock &x = a[i].blocks[j], &y = b[i].blocks[j];
      if (x.owner == rank && std::memcmp(x.data.data(), y.data.data(), static_cast<size_t>(x.data.bytes())) != 0) return false;
    }
  }
  return true;
}

TEST(Checkpoint, EveryOrderedPairOfRanksSavesAndLoadsTheSameBytesAndDigest) {
  std::set<std::string> digests;
  for (int writers = 1; writers <= 4; ++writers) {
    Scratch scratch;
    run_ranks(writers, [&](Communicator& comm) {
      const TestState test = make_test_state(comm.rank(), writers, 1);
      SaveOptions options;
      options.buffer_bytes = 32 << 10;  // smaller than a block, so that blocks travel in pieces
      const SavedCheckpoint saved = save_checkpoint(comm, scratch.path(), test.state, test_info(5), options);
      EXPECT_EQ(saved.directory, scratch.path("step-000000005"));
      EXPECT_EQ(saved.state_digest, state_digest(comm, test.state));
    });
    for (int readers = 1; readers <= 4; ++readers) {
      run_ranks(readers, [&](Communicator& comm) {
        TestState loaded = make_blank_state(comm.rank(), readers, 1);
        const auto found = load_checkpoint(comm, scratch.path(), loaded.state, {});
        ASSERT_TRUE(found.has_value());
        EXPECT_TRUE(found->warnings.empty()) << found->warnings.front();
        StateInfo expected = test_info(5);
        expected.ranks = writers;
        EXPECT_EQ(found->info, expected);
        const TestState original = make_test_state(comm.rank(), readers, 1, 1);
        EXPECT_TRUE(same_bytes(original.state, loaded.state, comm.rank())) << writers << " -> " << readers << " ranks, rank " << comm.rank();
        const std::string digest = state_digest(comm, loaded.state);
        EXPECT_EQ(digest, found->state_digest);
        if (comm.rank() == 0) digests.insert(digest);
      });
    }
    digests.insert(verify_checkpoint(scratch.path("step-000000005")));
  }
  EXPECT_EQ(digests.size(), 1u) << "the digest of one state depends on the number of ranks";
}

TEST(Checkpoint, ABoundedOutboxIsEnough) {
  Scratch scratch;
  RankOptions ranks;
  ranks.sizes = {64, 8192};
  run_ranks(
      3,
      [&](Communicator& comm) {
        const TestState test = make_test_state(comm.rank(), 3, 1);
        SaveOptions options;
        options.buffer_bytes = 8192;
        save_checkpoint(comm, scratch.path(), test.state, test_info(1), options);
      },
      ranks);
  EXPECT_NO_THROW(verify_checkpoint(scratch.path("step-000000001")));
}

TEST(Checkpoint, WeightsAloneAreLoadedForEvaluation) {
  Scratch scratch;
  save_one(scratch.path(), 3, 1);
  run_ranks(2, [&](Communicator& comm) {
    TestState loaded = make_blank_state(comm.rank(), 2);
    State weights = weights_of(loaded.state);
    LoadOptions options;
    options.weights_only = true;
    ASSERT_TRUE(load_checkpoint(comm, scratch.path(), weights, options).has_value());
    EXPECT_TRUE(same_bytes(weights_of(make_test_state(comm.rank(), 2, 1).state), weights, comm.rank()));
    EXPECT_TRUE(same_bytes(make_blank_state(comm.rank(), 2).state, loaded.state, comm.rank()) == false);
  });
}

TEST(Checkpoint, AMissingOrEmptyRunHasNone) {
  Scratch scratch;
  run_ranks(2, [&](Communicator& comm) {
    TestState test = make_blank_state(comm.rank(), 2);
    EXPECT_FALSE(load_checkpoint(comm, scratch.path(), test.state, {}).has_value());
    EXPECT_FALSE(load_checkpoint(comm, scratch.path("missing"), test.state, {}).has_value());
  });
  std::vector<std::string> warnings;
  EXPECT_FALSE(find_newest_valid(scratch.path("missing"), warnings).has_value());
}

TEST(Checkpoint, TheNewestIsLoadedAndFound) {
  Scratch scratch;
  for (int64_t step : {9, 1000000000, 10}) save_one(scratch.path(), step, static_cast<uint64_t>(step));
  EXPECT_THAT(list_checkpoints(scratch.path()), ::testing::ElementsAre(1000000000, 10, 9));
  std::vector<std::string> warnings;
  const auto found = find_newest_valid(scratch.path(), warnings);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->manifest.info.step, 1000000000);
  EXPECT_EQ(found->manifest.info.config, test_info(0).config);
  EXPECT_EQ(found->manifest.tensors.size(), make_test_state(0, 1, 1).state.size());
}

TEST(Checkpoint, SavingAStepAgainReplacesIt) {
  Scratch scratch;
  const std::string first = save_one(scratch.path(), 4, 1).state_digest;
  const std::string second = save_one(scratch.path(), 4, 2).state_digest;
  EXPECT_NE(first, second);
  EXPECT_EQ(verify_checkpoint(scratch.path("step-000000004")), second);
  EXPECT_THAT(names_in(scratch.path()), ::testing::ElementsAre("step-000000004")) << "nothing else is left";
}

TEST(Checkpoint, RetentionKeepsTheNewestAndNeverFewerThanTwo) {
  Scratch scratch;
  SaveOptions options;
  options.keep = 3;
  for (int64_t step = 1; step <= 5; ++step) save_one(scratch.path(), step, 1, options);
  EXPECT_THAT(names_in(scratch.path()), ::testing::ElementsAre("step-000000003", "step-000000004", "step-000000005"));
  options.keep = 1;
  save_one(scratch.path(), 6, 1, options);
  EXPECT_THAT(names_in(scratch.path()), ::testing::ElementsAre("step-000000005", "step-000000006"));
  options.keep = 0;
  save_one(scratch.path(), 7, 1, options);
  EXPECT_EQ(names_in(scratch.path()).size(), 3u);
}

TEST(Checkpoint, RetentionDoesNotCountDamagedOnes) {
  Scratch scratch;
  for (int64_t step = 1; step <= 4; ++step) save_one(scratch.path(), step, 1);
  write_file(scratch.path("step-000000003/MANIFEST.json"), "{}");
  write_file(scratch.path("step-000000004/MANIFEST.json"), "{}");
  SaveOptions options;
  options.keep = 2;
  save_one(scratch.path(), 5, 1, options);
  EXPECT_THAT(list_checkpoints(scratch.path()), ::testing::ElementsAre(5, 4, 3, 2)) << "5 and 2 are the whole ones";
}

TEST(StateDigest, IsTheHashOfTheLinesInNameOrder) {
  float values[] = {1, 2};
  int32_t scalar = 7;
  State state;
  state.push_back({"b", Dtype::kF32, {2}, {{0, 1, 0, Tensor(values, Dtype::kF32, {2})}}});
  state.push_back({"a", Dtype::kI32, {}, {{0, 1, 0, Tensor(&scalar, Dtype::kI32, {})}}});
  run_ranks(1, [&](Communicator& comm) {
    // printf '\x07\x00\x00\x00' | sha256sum; printf '\x00\x00\x80\x3f\x00\x00\x00\x40' | sha256sum
    EXPECT_THAT(digest_lines(comm, state), ::testing::ElementsAre("a I32 scalar e8613f5a5bc9f9feeda32a8e7c80b69dd4878e47b6a91723fb15eb84236b6a2b",
                                                                  "b F32 2 b9c80b5adeca450753a16950c3cc655d271f7bef7a485bc83f112b72fef21d37"));
    EXPECT_EQ(state_digest(comm, state), "df6c9dc54a11d7841e1c86161ad8d14e483d30811d895160c88de768e333c927");
  });
}

TEST(StateDigest, ChangesWithNameShapeDtypeAndEveryBlock) {
  run_ranks(1, [&](Communicator& comm) {
    std::set<std::string> digests{state_digest(comm, make_test_state(0, 1, 1).state)};
    TestState renamed = make_test_state(0, 1, 1);
    renamed.state[0].name += "x";
    digests.insert(state_digest(comm, renamed.state));
    size_t expected = 2;
    TestState changed = make_test_state(0, 1, 1);
    for (StateTensor& tensor : changed.state) {
      for (StateBlock& block : tensor.blocks) {
        static_cast<unsigned char*>(block.data.data())[block.data.bytes() - 1] ^= 1;
        digests.insert(state_digest(comm, changed.state));
        EXPECT_EQ(digests.size(), ++expected) << tensor.name << ", rows from " << block.first_row;
      }
    }
  });
}

TEST(Plan, EveryTensorIsInOneFileAndBytesAreBalanced) {
  for (int ranks = 1; ranks <= 4; ++ranks) {
    const TestState test = make_test_state(0, ranks, 1);
    const WritePlan plan = plan_files(test.state, ranks);
    std::set<size_t> seen;
    std::vector<int64_t> load(static_cast<size_t>(ranks));
    for (const PlannedFile& file : plan.files) {
      load[static_cast<size_t>(file.writer)] += file.data_bytes;
      for (size_t index : file.tensors) EXPECT_TRUE(seen.insert(index).second) << "a tensor is written twice";
    }
    EXPECT_EQ(seen.size(), test.state.size());
    if (ranks == 1) continue;
    const auto [least, most] = std::minmax_element(load.begin(), load.end());
    EXPECT_LE(*most - *least, 560000) << "more than the largest tensor apart on " << ranks << " ranks";
  }
}

TEST(Plan, AnExpertIsWrittenByItsOwner) {
  const TestState test = make_test_state(0, 3, 1);
  const std::vector<int> writers = assign_writers(test.state, 3);
  for (size_t i = 0; i < test.state.size(); ++i) {
    if (test.state[i].name.find(".expert.") == std::string::npos) continue;
    EXPECT_EQ(writers[i], test.state[i].blocks[0].owner) << test.state[i].name;
  }
}

}  // namespace
}  // namespace switchyard
