// A damaged checkpoint is never mistaken for a good one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>
#include <random>

#include "comm/self.h"
#include "src/checkpoint/checksum.h"
#include "tests/checkpoint/checkpoint_helper.h"

namespace switchyard {
namespace {

constexpr const char* kNew = "step-000000020";
constexpr const char* kOld = "step-000000010";
constexpr const char* kShard = "shard-00000-of-00001.safetensors";

// A run with two whole checkpoints.
class Damage : public ::testing::Test {
 protected:
  Damage() {
    save_one(run(), 10, 1);
    save_one(run(), 20, 2);
  }
  std::string run() const { return scratch_.path(); }
  std::string manifest() const { return scratch_.path(std::string(kNew) + "/MANIFEST.json"); }
  std::string shard() const { return scratch_.path(std::string(kNew) + "/" + kShard); }

  // Changes the manifest and gives it the checksum that belongs to the changed text.
  void edit_manifest(const std::string& from, const std::string& to) {
    std::string text = read_file(manifest());
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    const size_t tail = text.rfind(",\n\"checksum\"");
    const std::string body = text.substr(0, tail);
    write_file(manifest(), body + ",\n\"checksum\": \"" + to_hex(checksum(body)) + "\"\n}\n");
  }

  // Loading on two ranks passes over the new checkpoint, says why, and gives the old one's bytes.
  void expect_older(const std::string& reason) {
    run_ranks(2, [&](Communicator& comm) {
      TestState test = make_blank_state(comm.rank(), 2);
      const auto loaded = load_checkpoint(comm, run(), test.state, {});
      ASSERT_TRUE(loaded.has_value());
      ASSERT_EQ(loaded->info.step, 10);
      ASSERT_EQ(loaded->warnings.size(), 1u);
      EXPECT_THAT(loaded->warnings[0], ::testing::HasSubstr(kNew));
      EXPECT_THAT(loaded->warnings[0], ::testing::HasSubstr(reason));
      EXPECT_EQ(state_digest(comm, test.state), state_digest(comm, make_test_state(comm.rank(), 2, 1).state));
    });
    EXPECT_THROW(verify_checkpoint(scratch_.path(kNew)), Error);
  }

  // True where one rank, loading, ends with the old checkpoint.
  bool one_rank_falls_back() {
    const std::unique_ptr<Communicator> comm = make_self_communicator({});
    TestState test = make_blank_state(0, 1);
    return load_checkpoint(*comm, run(), test.state, {})->info.step == 10;
  }

  Scratch scratch_;
};

TEST_F(Damage, ABitInTheDataNamesTheTensor) {
  std::string bytes = read_file(shard());
  bytes[bytes.size() - 1] = static_cast<char>(bytes[bytes.size() - 1] ^ 4);
  write_file(shard(), bytes);
  expect_older("tensor 'half' has the checksum");
}

TEST_F(Damage, EveryKindOfBitFlipIsFound) {
  std::mt19937 random(3);
  for (const std::string& path : {shard(), manifest()}) {
    const std::string good = read_file(path);
    const size_t edge = path == shard() ? 2000 : good.size();  // header and first data; the whole manifest
    for (int round = 0; round < 40; ++round) {
      std::string bytes = good;
      const size_t at = std::uniform_int_distribution<size_t>(0, (round % 2 == 0 ? edge : bytes.size()) - 1)(random);
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << (round % 8)));
      write_file(path, bytes);
      EXPECT_TRUE(one_rank_falls_back()) << path << ", byte " << at;
    }
    write_file(path, good);
  }
  EXPECT_FALSE(one_rank_falls_back()) << "the undamaged checkpoint must load";
}

TEST_F(Damage, TruncationAndGrowthAreFound) {
  for (const std::string& path : {shard(), manifest()}) {
    const std::string good = read_file(path);
    for (size_t size : {size_t{0}, size_t{7}, size_t{8}, size_t{100}, good.size() / 2, good.size() - 1}) {
      write_file(path, good.substr(0, size));
      EXPECT_TRUE(one_rank_falls_back()) << path << " cut to " << size;
    }
    write_file(path, good + '\n');
    EXPECT_TRUE(one_rank_falls_back()) << path << " with a byte appended";
    write_file(path, good);
  }
}

TEST_F(Damage, ATruncatedFileSaysSo) {
  std::filesystem::resize_file(shard(), 5000);
  expect_older("it is truncated");
}

TEST_F(Damage, AMissingFileIsNamed) {
  std::filesystem::remove(shard());
  expect_older(std::string("the file ") + kShard + " is missing");
}

TEST_F(Damage, AMissingManifestIsNamed) {
  std::filesystem::remove(manifest());
  expect_older("the file MANIFEST.json is missing");
}

TEST_F(Damage, AFileOfAnotherCheckpointIsFound) {
  std::filesystem::copy_file(scratch_.path(std::string(kOld) + "/" + kShard), shard(), std::filesystem::copy_options::overwrite_existing);
  expect_older("has the checksum");
}

TEST_F(Damage, ADirectoryOfAnotherStepIsFound) {
  std::filesystem::remove_all(scratch_.path(kNew));
  std::filesystem::copy(scratch_.path(kOld), scratch_.path(kNew));
  run_ranks(2, [&](Communicator& comm) {
    TestState test = make_blank_state(comm.rank(), 2);
    const auto loaded = load_checkpoint(comm, run(), test.state, {});
    EXPECT_EQ(loaded->info.step, 10);
    ASSERT_EQ(loaded->warnings.size(), 1u);
    EXPECT_THAT(loaded->warnings[0], ::testing::HasSubstr("is of step 10"));
  });
}

TEST_F(Damage, LinksAndPipesAreNotFollowed) {
  const std::string elsewhere = scratch_.path("elsewhere");
  std::filesystem::rename(shard(), elsewhere);
  std::filesystem::create_symlink(elsewhere, shard());
  expect_older("is a link");
  std::filesystem::remove(shard());
  ASSERT_EQ(::mkfifo(shard().c_str(), 0600), 0);
  expect_older("is not a regular file");
  std::filesystem::remove(shard());
  std::filesystem::create_directory(shard());
  expect_older("is not a regular file");
}

TEST_F(Damage, ALinkedCheckpointIsNoCheckpoint) {
  std::filesystem::create_directory_symlink(scratch_.path(kNew), scratch_.path("step-000000030"));
  EXPECT_THAT(list_checkpoints(run()), ::testing::ElementsAre(20, 10));
}

TEST_F(Damage, HostileFileNamesAreRefused) {
  const std::string good = read_file(manifest());
  for (const char* name :
       {"../step-000000010/shard-00000-of-00001.safetensors", "/etc/passwd", "..", ".", "", "a/b", ".hidden", "a\\u0000b", "a b", "MANIFEST.json",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
    edit_manifest(std::string("\"name\":\"") + kShard, std::string("\"name\":\"") + name);
    expect_older("names a file that a checkpoint may not name");
    write_file(manifest(), good);
  }
}

TEST_F(Damage, ManifestsThatContradictThemselvesAreRefused) {
  const std::string good = read_file(manifest());
  const std::vector<std::pair<std::string, std::string>> edits{{"\"version\": 1", "\"version\": 2"},
                                                               {"\"version\": 1", "\"version\": -1"},
                                                               {"\"step\":20", "\"step\":21"},
                                                               {"\"skips\":2", "\"skips\":21"},
                                                               {"\"tokens\":", "\"coins\":"},
                                                               {"\"best\":{\"step\":10", "\"best\":{\"step\":21"},
                                                               {"\"loss\":0.3", "\"loss\":\"0.3"},
                                                               {"\"since\":3", "\"since\":-3"},
                                                               {"\"seed\":18446744073709551615", "\"seed\":1.5"},
                                                               {"\"file\":0", "\"file\":1"},
                                                               {"\"dtype\":\"F32\"", "\"dtype\":\"F64\""},
                                                               {"\"dtype\":\"F32\"", "\"dtype\":\"pickle\""},
                                                               {"\"shape\":[7]", "\"shape\":[7,1]"},
                                                               {"\"shape\":[7]", "\"shape\":[1152921504606846976,0]"},
                                                               {"\"shape\":[7]", "\"shape\":[1,1,1,1,7]"},
                                                               {"\"begin\":0", "\"begin\":4"},
                                                               {"\"name\":\"half\"", "\"name\":\"halves\""},
                                                               {"\"name\":\"half\"", "\"name\":\"scalar\""},
                                                               {"\"xxh3_128\":\"", "\"xxh3_128\":\"0"},
                                                               {"\"files\": [", "\"files\": [[[[[[[[1]]]]]]],"},
                                                               {"\"state_digest\": \"", "\"state_digest\": \"x"},
                                                               {"\"run\": {", "\"run\": {{"}};
  for (const auto& [from, to] : edits) {
    edit_manifest(from, to);
    EXPECT_TRUE(one_rank_falls_back()) << from << " -> " << to;
    write_file(manifest(), good);
  }
}

TEST_F(Damage, AForgedStateDigestIsFound) {
  const std::string text = read_file(manifest());
  const std::string member = "\"state_digest\": \"";
  const std::string digest = text.substr(text.find(member) + member.size(), 64);
  edit_manifest(digest, std::string(64, '0'));
  expect_older("the state digest");
}

TEST_F(Damage, UnknownFilesBesideTheOthersAreIgnored) {
  write_file(scratch_.path(std::string(kNew) + "/notes.txt"), "mine");
  EXPECT_FALSE(one_rank_falls_back());
}

TEST_F(Damage, WhereNoneIsWholeAllRanksFailWithTheDataCode) {
  std::filesystem::resize_file(shard(), 100);
  std::filesystem::remove(scratch_.path(std::string(kOld) + "/MANIFEST.json"));
  LoadOptions options;
  options.quarantine = true;
  const auto errors = errors_of_ranks(3, [&](Communicator& comm) {
    TestState test = make_blank_state(comm.rank(), 3);
    load_checkpoint(comm, run(), test.state, options);
  });
  EXPECT_EQ(errors.size(), 3u);
  for (const Error& error : errors) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("none of the 2 checkpoints"));
  }
  EXPECT_THAT(list_checkpoints(run()), ::testing::ElementsAre(20, 10)) << "they stay, or the next run would start from nothing";
  std::vector<std::string> warnings;
  EXPECT_THROW(find_newest_valid(run(), warnings), Error);
  EXPECT_EQ(warnings.size(), 2u);
}

TEST_F(Damage, ADamagedCheckpointIsPutAsideOnceAnOlderOneHasLoaded) {
  std::filesystem::resize_file(shard(), 100);
  LoadOptions options;
  options.quarantine = true;
  run_ranks(2, [&](Communicator& comm) {
    TestState test = make_blank_state(comm.rank(), 2);
    EXPECT_EQ(load_checkpoint(comm, run(), test.state, options)->info.step, 10);
  });
  EXPECT_THAT(names_in(run()), ::testing::ElementsAre(".damaged-step-000000020-0", kOld));
}

TEST_F(Damage, FindingLooksAtHeadersOnly) {
  std::filesystem::resize_file(shard(), 100);
  std::vector<std::string> warnings;
  EXPECT_EQ(find_newest_valid(run(), warnings)->manifest.info.step, 10);
  EXPECT_EQ(warnings.size(), 1u);
}

// ---- a checkpoint of another model

class OtherModel : public Damage {
 protected:
  void expect_refused(const std::function<void(State&)>& change, const std::string& reason) {
    const auto errors = errors_of_ranks(2, [&](Communicator& comm) {
      TestState test = make_blank_state(comm.rank(), 2);
      change(test.state);
      load_checkpoint(comm, run(), test.state, {});
    });
    EXPECT_EQ(errors.size(), 2u) << reason;
    for (const Error& error : errors) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      EXPECT_THAT(error.what(), ::testing::AllOf(::testing::HasSubstr("is of another model"), ::testing::HasSubstr(reason)));
    }
  }
};

TEST_F(OtherModel, AMissingTensorIsNamed) {
  expect_refused([](State& state) { state.back().name = "zebra"; }, "it has a tensor 'scalar' that the model lacks");
  expect_refused([](State& state) { state.back().name = "aardvark"; }, "it lacks the model's tensor 'aardvark'");
}

TEST_F(OtherModel, AnotherShapeOrDtypeIsNamed) {
  static float values[8];
  const auto reshaped = [](State& state) {
    for (StateTensor& tensor : state) {
      if (tensor.name == "decoder.block.0.norm.scale") tensor = {tensor.name, Dtype::kF32, {8}, {{0, 1, 0, Tensor(values, Dtype::kF32, {8})}}};
    }
  };
  expect_refused(reshaped, "tensor 'decoder.block.0.norm.scale' is F32 [7] in it and F32 [8] in the model");
  const auto retyped = [](State& state) {
    for (StateTensor& tensor : state) {
      if (tensor.name == "decoder.block.0.norm.scale") tensor = {tensor.name, Dtype::kI32, {7}, {{0, 1, 0, Tensor(values, Dtype::kI32, {7})}}};
    }
  };
  expect_refused(retyped, "F32 [7] in it and I32 [7] in the model");
}

TEST_F(OtherModel, MomentsThatTheOptimizerLacksAreNamed) {
  expect_refused([](State& state) { state = weights_of(state); }, "it has a tensor 'optimizer.m.decoder.block.0.norm.scale' that the model lacks");
}

}  // namespace
}  // namespace switchyard
