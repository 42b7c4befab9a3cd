// How one token is drawn: temperature, top-k and top-p.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

#include "src/train/generate.h"

namespace switchyard {
namespace {

constexpr uint64_t kDraws = 4000;

// How often each token is drawn in kDraws draws.
std::map<int32_t, int> counts(const std::vector<double>& logits, const GenerateOptions& options) {
  std::map<int32_t, int> result;
  for (uint64_t i = 0; i < kDraws; ++i) ++result[sample(logits, options, i)];
  return result;
}

std::vector<int32_t> drawn(const std::vector<double>& logits, const GenerateOptions& options) {
  std::vector<int32_t> tokens;
  for (const auto& [token, count] : counts(logits, options)) tokens.push_back(token);
  return tokens;
}

std::vector<double> logs(const std::vector<double>& probabilities) {
  std::vector<double> result;
  for (const double p : probabilities) result.push_back(std::log(p));
  return result;
}

using Tokens = std::vector<int32_t>;

TEST(Sample, DrawsWithTheProbabilities) {
  const auto found = counts(logs({0.2, 0.5, 0.3}), {});
  const double expected[] = {0.2, 0.5, 0.3};
  for (int32_t t = 0; t < 3; ++t) EXPECT_NEAR(found.at(t) / static_cast<double>(kDraws), expected[t], 0.03) << "token " << t;
}

TEST(Sample, TemperatureZeroTakesTheLargestAndTheLowestOfEquals) {
  EXPECT_EQ(drawn({1, 3, 3, 2}, {.temperature = 0}), (Tokens{1}));
  EXPECT_EQ(drawn({1, 3, 3, 2}, {.temperature = 0, .top_p = 0.1}), (Tokens{1}));
}

// 0.5 + 0.25 = 0.75 reaches 0.75 and 0.7, not 0.76.
TEST(Sample, TopPKeepsTheTokenThatReachesIt) {
  const std::vector<double> logits = logs({0.125, 0.5, 0.125, 0.25});
  EXPECT_EQ(drawn(logits, {.top_p = 0.3}), (Tokens{1}));
  EXPECT_EQ(drawn(logits, {.top_p = 0.51}), (Tokens{1, 3}));
  EXPECT_EQ(drawn(logits, {.top_p = 0.7}), (Tokens{1, 3}));
  EXPECT_EQ(drawn(logits, {.top_p = 0.76}), (Tokens{0, 1, 3}));
  EXPECT_EQ(drawn(logits, {.top_p = 1}), (Tokens{0, 1, 2, 3}));
}

// Equal logits have weights of exactly one, so that sums are exact.
TEST(Sample, TopPThatIsReachedExactlyNeedsNoFurtherToken) {
  const std::vector<double> logits = {0, 0, 0, 0};
  EXPECT_EQ(drawn(logits, {.top_p = 0.25}), (Tokens{0})) << "of equal tokens the lowest come first";
  EXPECT_EQ(drawn(logits, {.top_p = 0.5}), (Tokens{0, 1}));
  EXPECT_EQ(drawn(logits, {.top_p = 0.75}), (Tokens{0, 1, 2}));
  EXPECT_EQ(drawn(logits, {.top_p = 0.7500001}), (Tokens{0, 1, 2, 3}));
}

TEST(Sample, TopPKeepsAtLeastOneToken) {
  EXPECT_EQ(drawn({0, 0, 0}, {.top_p = 1e-300}), (Tokens{0}));
  EXPECT_EQ(drawn({-5}, {.top_p = 0.5}), (Tokens{0}));
}

// What is kept is drawn with its probabilities, made to sum to one.
TEST(Sample, TopPRenormalises) {
  const auto found = counts(logs({0.1, 0.6, 0.3}), {.top_p = 0.85});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_NEAR(found.at(1) / static_cast<double>(kDraws), 2.0 / 3, 0.03);
}

// The sum is over what top-k kept, at the temperature that is drawn with.
TEST(Sample, TopPComesAfterTopKAndTemperature) {
  const std::vector<double> logits = logs({0.4, 0.3, 0.2, 0.1});
  EXPECT_EQ(drawn(logits, {.top_p = 0.55}), (Tokens{0, 1}));
  EXPECT_EQ(drawn(logits, {.top_k = 2, .top_p = 0.55}), (Tokens{0})) << "0.4 of the 0.7 that top-k keeps is 0.57";
  EXPECT_EQ(drawn(logits, {.temperature = 0.25, .top_p = 0.55}), (Tokens{0})) << "cold: token 0 has 0.72";
  EXPECT_EQ(drawn(logits, {.temperature = 50, .top_p = 0.55}), (Tokens{0, 1, 2})) << "hot: each has about a quarter";
  EXPECT_EQ(drawn(logits, {.top_k = 1, .top_p = 1}), (Tokens{0}));
}

TEST(Sample, TopPOfOneChangesNoDraw) {
  std::vector<double> logits;
  for (int i = 0; i < 50; ++i) logits.push_back(std::sin(i * 1.7) * 3);
  for (uint64_t i = 0; i < 200; ++i) EXPECT_EQ(sample(logits, {.top_p = 1}, i), sample(logits, {}, i));
  // A bound that only the last token reaches keeps all of them.
  for (uint64_t i = 0; i < 200; ++i) EXPECT_EQ(sample(logits, {.top_p = 1 - 1e-9}, i), sample(logits, {}, i));
}

}  // namespace
}  // namespace switchyard
