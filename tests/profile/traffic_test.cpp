// What a pattern asks of every pair of ranks, and what the columns make of it.
#include "src/profile/traffic.h"

#include <gmock/gmock.h>

#include <functional>

#include "src/base/error.h"
#include "src/profile/payload.h"

namespace switchyard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The sentence with which `work` fails; its code must be this one.
std::string refusal(ExitCode code, const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(Traffic, UniformGivesEveryPairTheSameMultipleOfSixteen) {
  const Traffic traffic = make_traffic(parse_pattern("uniform"), 3, 100);
  for (const int64_t cell : traffic.bytes) EXPECT_EQ(cell, 112);
  EXPECT_EQ(traffic.total(), 9 * 112);
  EXPECT_EQ(traffic.largest(), 3 * 112);
}

TEST(Traffic, ZipfSendsMostToRankZeroAndKeepsTheMean) {
  const Traffic traffic = make_traffic(parse_pattern("zipf:1"), 4, 48000);
  // Shares 1, 1/2, 1/3, 1/4 of 25/12.
  EXPECT_THAT((std::vector<int64_t>{traffic.at(2, 0), traffic.at(2, 1), traffic.at(2, 2), traffic.at(2, 3)}), ElementsAre(92160, 46080, 30720, 23040));
  EXPECT_EQ(traffic.total(), 16 * 48000);
  EXPECT_EQ(traffic.received(0), 4 * 92160);
  EXPECT_EQ(traffic.sent(0), 4 * 48000);
  const std::vector<int> hosts(4, 0);
  EXPECT_NEAR(wire_bytes(traffic, hosts).imbalance, 4 * 92160.0 / (4 * 48000), 1e-9);
  EXPECT_EQ(wire_bytes(traffic, hosts).within, 3 * 92160) << "rank 0 gets the most from others";
}

TEST(Traffic, AMatrixStaysAsItIsOrIsScaledToItsMean) {
  Pattern pattern = parse_pattern("matrix:some");
  pattern.matrix = parse_matrix("# note\n0 64\n192 0\n", 2, "some");
  EXPECT_THAT(make_traffic(pattern, 2, 0).bytes, ElementsAre(0, 64, 192, 0));
  EXPECT_THAT(make_traffic(pattern, 2, 640).bytes, ElementsAre(0, 640, 1920, 0));
}

TEST(Traffic, PairsOfOneHostAndOfSeveralAreToldApart) {
  const std::vector<int> hosts = {0, 0, 1, 1};
  const Traffic all = make_traffic(parse_pattern("uniform"), 4, 16);
  const Traffic within = only(all, Pairs::kWithinHosts, hosts), between = only(all, Pairs::kBetweenHosts, hosts);
  EXPECT_EQ(within.at(0, 1), 16);
  EXPECT_EQ(within.at(0, 2), 0);
  EXPECT_EQ(between.at(0, 1), 0);
  EXPECT_EQ(between.at(0, 2), 16);
  EXPECT_EQ(within.total() + between.total(), all.total());
  EXPECT_EQ(wire_bytes(all, hosts).within, 16) << "own rows cross no link";
  EXPECT_EQ(wire_bytes(all, hosts).between, 32);
}

TEST(Traffic, SizesAreReadAsUsersWriteThem) {
  EXPECT_THAT(parse_sizes("4KiB:4MiB", 4), ElementsAre(4096, 16384, 65536, 262144, 1048576, 4194304));
  EXPECT_THAT(parse_sizes("1000:5K", 2), ElementsAre(1000, 2000, 4000));
  EXPECT_THAT(parse_sizes("64KiB", 4), ElementsAre(65536));
  EXPECT_EQ(parse_sizes("1:1024GiB", 2).size(), 41u);
  for (const char* bad : {"", "0", "-4", "4KB", "4KiB:", "99999999999999999999", "2000GiB", "1:2:3"}) {
    EXPECT_THAT(refusal(ExitCode::kUsage, [&] { parse_sizes(bad, 2); }), HasSubstr("size")) << bad;
  }
  EXPECT_THAT(refusal(ExitCode::kUsage, [] { parse_sizes("4MiB:4KiB", 2); }), HasSubstr("smaller one first"));
  EXPECT_THAT(refusal(ExitCode::kUsage, [] { parse_sizes("4KiB", 1); }), HasSubstr("--factor"));
}

TEST(Traffic, BadPatternsAndMatricesAreOneSentence) {
  for (const char* bad : {"even", "zipf", "zipf:", "zipf:x", "zipf:-1", "zipf:1e9", "matrix:", "uniform:2"}) {
    EXPECT_THAT(refusal(ExitCode::kUsage, [&] { parse_pattern(bad); }), HasSubstr("--pattern")) << bad;
  }
  EXPECT_THAT(refusal(ExitCode::kData, [] { parse_matrix("1 2 3", 2, "m"); }), HasSubstr("has 3 numbers where 2 ranks need 4"));
  EXPECT_THAT(refusal(ExitCode::kData, [] { parse_matrix("1 2\n3 4\n5", 2, "m"); }), HasSubstr("more than 2 x 2"));
  EXPECT_THAT(refusal(ExitCode::kData, [] { parse_matrix("1 2\n3 -4\n", 2, "m"); }), HasSubstr("m:2: "));
  EXPECT_THAT(refusal(ExitCode::kData, [] { parse_matrix("1 2\n3 1e3\n", 2, "m"); }), HasSubstr("'1e3'"));
  EXPECT_THAT(refusal(ExitCode::kData, [] { parse_matrix("99999999999999999999", 1, "m"); }), HasSubstr("2^40"));
}

TEST(Payload, SaysWhoSentItToWhomWhenAndWhere) {
  const Parcel parcel{1, 2, 3};
  std::vector<uint32_t> words(1000);
  fill_payload(words, parcel);
  EXPECT_EQ(wrong_words(words, parcel), 0);
  for (const Parcel& other : {Parcel{2, 1, 3}, Parcel{1, 2, 4}, Parcel{1, 3, 3}, Parcel{0, 2, 3}}) {
    EXPECT_EQ(wrong_words(words, other), 1000) << other.from << " " << other.to << " " << other.repetition;
  }
  EXPECT_EQ(wrong_words(std::span(words).subspan(1), parcel), 999) << "a message that is one word late";
  std::swap(words[10], words[11]);
  words[999] ^= 1;
  EXPECT_EQ(wrong_words(words, parcel), 3);
}

}  // namespace
}  // namespace switchyard
