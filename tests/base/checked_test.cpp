#include "src/base/checked.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace switchyard {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();

template <class F>
std::string sentence_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return error.what();
  }
  return "nothing was thrown";
}

TEST(CheckedMultiply, GivesTheProductUpToTheLimits) {
  EXPECT_EQ(checked_multiply(6, -7), -42);
  EXPECT_EQ(checked_multiply(kMax, 1), kMax);
  EXPECT_EQ(checked_multiply(int64_t{1} << 31, int64_t{1} << 31), int64_t{1} << 62);
  EXPECT_EQ(checked_multiply(kMin, 1), kMin);
}

TEST(CheckedMultiply, NamesTheOperandsThatDoNotFit) {
  EXPECT_EQ(sentence_of([] { checked_multiply(int64_t{1} << 32, int64_t{1} << 31); }),
            "size 4294967296 * 2147483648 does not fit in 64 bits; use smaller sizes");
  EXPECT_THROW(checked_multiply(kMin, -1), Error);
}

TEST(CheckedAdd, GivesTheSumUpToTheLimits) {
  EXPECT_EQ(checked_add(kMax - 1, 1), kMax);
  EXPECT_EQ(checked_add(kMin, kMax), -1);
}

TEST(CheckedAdd, NamesTheOperandsThatDoNotFit) {
  EXPECT_EQ(sentence_of([] { checked_add(kMax, 1); }), "size 9223372036854775807 + 1 does not fit in 64 bits; use smaller sizes");
  EXPECT_THROW(checked_add(kMin, -1), Error);
}

TEST(Narrow, KeepsWhatFits) {
  EXPECT_EQ(narrow<int32_t>(int64_t{2147483647}), 2147483647);
  EXPECT_EQ(narrow<int32_t>(int64_t{-2147483648}), std::numeric_limits<int32_t>::min());
  EXPECT_EQ(narrow<uint32_t>(int64_t{4294967295}), 4294967295u);
  EXPECT_EQ(narrow<int64_t>(uint64_t{5}), 5);
}

TEST(Narrow, RefusesWhatDoesNot) {
  EXPECT_EQ(sentence_of([] { narrow<int32_t>(int64_t{2147483648}); }), "number 2147483648 is out of range");
  EXPECT_THROW(narrow<uint32_t>(int64_t{-1}), Error) << "a sign has no place in an unsigned number";
  EXPECT_THROW(narrow<uint64_t>(int64_t{-1}), Error) << "same bits, another number";
  EXPECT_THROW(narrow<int64_t>(~uint64_t{0}), Error) << "same bits, another number";
}

TEST(DivideUp, RoundsUp) {
  EXPECT_EQ(divide_up(0, 16), 0);
  EXPECT_EQ(divide_up(1, 16), 1);
  EXPECT_EQ(divide_up(16, 16), 1);
  EXPECT_EQ(divide_up(17, 16), 2);
  EXPECT_EQ(round_up(17, 16), 32);
  EXPECT_EQ(round_up(32, 16), 32);
}

}  // namespace
}  // namespace switchyard
