// What a transfer costs by the model, and the file that holds a model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "comm/link_file.h"
#include "comm/link_model.h"
#include "comm/two_level_plan.h"
#include "tests/ranks.h"

namespace switchyard {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr LinkModel kModel{{1e-3, 1e6}, {5e-3, 1e5}};  // 1000 bytes: 2 ms within a host, 15 ms between hosts

TEST(LinkModel, AMessageTakesAlphaAndItsBytes) {
  const std::vector<int> hosts = {0, 0, 1};
  EXPECT_DOUBLE_EQ(message_seconds(kModel, hosts, 0, 1, 1000), 2e-3);
  EXPECT_DOUBLE_EQ(message_seconds(kModel, hosts, 1, 2, 1000), 15e-3);
  EXPECT_EQ(message_seconds(kModel, hosts, 2, 2, 1000), 0) << "a rank's own rows";
  EXPECT_EQ(message_seconds(kModel, hosts, 0, 1, 0), 0) << "no message without bytes";
}

TEST(LinkModel, AnAllToAllTakesItsLargestRowOrColumn) {
  const std::vector<int> hosts = {0, 0, 1};
  const std::vector<int64_t> incast = {9000, 0, 1000, 0, 0, 1000, 0, 0, 5000};  // ranks 0 and 1 send to rank 2
  EXPECT_DOUBLE_EQ(seconds(kModel, hosts, incast), 30e-3) << "what enters rank 2 adds up";
  const std::vector<int64_t> scatter = {0, 1000, 1000, 0, 0, 0, 0, 0, 0};  // rank 0 sends to both
  EXPECT_DOUBLE_EQ(seconds(kModel, hosts, scatter), 17e-3) << "what leaves rank 0 adds up, over both classes";
  EXPECT_DOUBLE_EQ(arrival_seconds(kModel, hosts, scatter, 1), 17e-3) << "rank 0's way out serves both at once";
  EXPECT_EQ(arrival_seconds(kModel, hosts, scatter, 0), 0) << "nothing comes to rank 0";
  EXPECT_EQ(seconds(kModel, hosts, std::vector<int64_t>(9, 0)), 0);
  EXPECT_THROW(seconds(kModel, hosts, std::vector<int64_t>(8, 0)), InternalError);
}

TEST(LinkModel, TwoLevelsCostThreeSmallerTransfers) {
  // 2 hosts of 2 ranks, 1000 bytes for every pair: flat, a rank sends 1 message inside and 2 between hosts.
  const std::vector<int> hosts = {0, 0, 1, 1};
  const std::vector<int64_t> bytes(16, 1000);
  EXPECT_DOUBLE_EQ(seconds(kModel, hosts, bytes), 32e-3);
  const auto parts = two_level_bytes(HostMap(hosts), bytes);
  // Ranks 0 and 2 carry: rank 1 hands 1000 + 2000 bytes to rank 0, 4000 travel, rank 0 hands out 2000.
  EXPECT_DOUBLE_EQ(seconds(kModel, hosts, parts[0]), 4e-3);
  EXPECT_DOUBLE_EQ(seconds(kModel, hosts, parts[1]), 45e-3);
  EXPECT_DOUBLE_EQ(seconds(kModel, hosts, parts[2]), 3e-3);
  EXPECT_DOUBLE_EQ(two_level_seconds(kModel, hosts, bytes), 52e-3) << "more than flat: one carrier a host";
  const LinkModel slow_start{{1e-6, 1e9}, {5e-3, 1e9}};
  EXPECT_LT(two_level_seconds(slow_start, hosts, bytes), 0.6 * seconds(slow_start, hosts, bytes)) << "where messages between hosts are dear";
}

constexpr const char* kGood = R"({"format": "switchyard link 1", "within_host": {"alpha_seconds": 2e-06, "bytes_per_second": 9.5e9},
  "between_hosts": {"alpha_seconds": 3e-05, "bytes_per_second": 1.18e8}, "ranks_per_host": 4})";

// kGood with one text in place of another.
std::string with(const std::string& old_text, const std::string& new_text) {
  std::string text = kGood;
  const size_t place = text.find(old_text);
  EXPECT_NE(place, std::string::npos) << old_text;
  return text.replace(place, old_text.size(), new_text);
}

std::string complaint(const std::string& text) {
  try {
    parse_link_file(text, "net.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    return error.what();
  }
  return "it was taken";
}

TEST(LinkFile, HoldsWhatItWasGiven) {
  const LinkFile file = parse_link_file(kGood, "net.json");
  EXPECT_EQ(file.model.within_host.alpha, 2e-6);
  EXPECT_EQ(file.model.within_host.bytes_per_second, 9.5e9);
  EXPECT_EQ(file.model.between_hosts.alpha, 3e-5);
  EXPECT_EQ(file.model.between_hosts.bytes_per_second, 1.18e8);
  EXPECT_EQ(file.ranks_per_host, 4);
  EXPECT_EQ(parse_link_file(with(", \"ranks_per_host\": 4", ""), "net.json").ranks_per_host, 0);
  const LinkFile odd{{{1.0 / 3e6, 1e10 / 7}, {0, 12345678.9}}, 2};
  const LinkFile again = parse_link_file(link_file_text(odd), "text");
  EXPECT_EQ(again.model.within_host.alpha, odd.model.within_host.alpha) << "written with every bit";
  EXPECT_EQ(again.model.within_host.bytes_per_second, odd.model.within_host.bytes_per_second);
  EXPECT_EQ(again.model.between_hosts.bytes_per_second, odd.model.between_hosts.bytes_per_second);
}

TEST(LinkFile, NamesWhatIsWrong) {
  EXPECT_THAT(complaint(""), HasSubstr("link file net.json: it is not JSON (byte 1); write one with switchyard profile alltoall"));
  EXPECT_THAT(complaint("{\"format\": "), HasSubstr("it is not JSON"));
  EXPECT_THAT(complaint("[]"), HasSubstr("its content must be an object in braces"));
  EXPECT_THAT(complaint("{}"), HasSubstr("format is missing"));
  EXPECT_THAT(complaint(with("link 1", "link 2")), HasSubstr("format must be \"switchyard link 1\""));
  EXPECT_THAT(complaint(with("\"ranks_per_host\"", "\"ranks\\u001bx\"")), HasSubstr("ranks?x is not a known field"));
  EXPECT_THAT(complaint(with("alpha_seconds\": 2e-06", "alpha\": 2e-06")), HasSubstr("within_host.alpha is not a known field"));
  EXPECT_THAT(complaint(with(", \"bytes_per_second\": 1.18e8", "")), HasSubstr("between_hosts.bytes_per_second is missing"));
  EXPECT_THAT(complaint(with("2e-06", "-1")), HasSubstr("within_host.alpha_seconds must be a number from 0 to 100"));
  EXPECT_THAT(complaint(with("1.18e8", "0")), HasSubstr("between_hosts.bytes_per_second must be a number from 1 to 1e+15"));
  EXPECT_THAT(complaint(with("1.18e8", "\"fast\"")), HasSubstr("bytes_per_second must be a number"));
  EXPECT_THAT(complaint(with("1.18e8", "1e999")), HasSubstr("beyond every range"));
  EXPECT_THAT(complaint(with("1.18e8", "NaN")), HasSubstr("it is not JSON"));
  EXPECT_THAT(complaint(with(": 4}", ": 4.5}")), HasSubstr("ranks_per_host must be a whole number"));
  EXPECT_THAT(complaint(with(": 4}", ": 99999999999999999999}")), HasSubstr("ranks_per_host must be a whole number"));
  EXPECT_THAT(complaint(with(": 4}", ": 4, \"ranks_per_host\": 5}")), HasSubstr("ranks_per_host is given twice"));
  EXPECT_THAT(complaint(with("2e-06", "2e-06, \"alpha_seconds\": 1")), HasSubstr("alpha_seconds is given twice"));
  EXPECT_THAT(complaint(std::string(60000, '[')), HasSubstr("it is not JSON"));
}

class LinkFiles : public testing::Test {
 protected:
  LinkFiles() { std::filesystem::create_directories(folder_); }
  ~LinkFiles() override { std::filesystem::remove_all(folder_); }
  const std::string folder_ = testing::TempDir() + "link_files_" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(LinkFiles, AreWrittenAndReadByEveryRank) {
  const std::string path = folder_ + "/net.json";
  write_link_file(path, {kModel, 3});
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1) << "nothing is left beside it";
  run_ranks(3, [&](Communicator& comm) {
    const LinkFile file = shared_link_file(comm, comm.rank() == 0 ? path : "/nowhere");
    EXPECT_EQ(file.model.between_hosts.bytes_per_second, 1e5);
    EXPECT_EQ(file.ranks_per_host, 3);
  });
}

TEST_F(LinkFiles, ThatCannotBeReadAreAnErrorOfAllRanks) {
  std::ofstream(folder_ + "/long.json") << std::string(70000, ' ');
  for (const auto& [path, words] :
       {std::pair{folder_ + "/none.json", "No such file"}, {folder_ + "/long.json", "is longer than 64 KiB"}, {folder_, "could not be"}}) {
    for (const auto& failure : failures_of_ranks(2, [&](Communicator& comm) { shared_link_file(comm, path); })) {
      ASSERT_TRUE(failure);
      EXPECT_EQ(failure->code, ExitCode::kInputOutput);
      EXPECT_THAT(failure->sentence, AllOf(HasSubstr("rank 0: link file"), HasSubstr(words)));
    }
  }
  EXPECT_THROW(write_link_file(folder_ + "/none/net.json", {}), Error);
}

}  // namespace
}  // namespace switchyard
