#include "src/data/utf8.h"

#include <gtest/gtest.h>

namespace switchyard {

namespace {

TEST(Utf8, AcceptsEveryLengthAtItsLimits) {
  for (const char* text :
       {"A", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(character_length(text), std::string_view(text).size()) << text;
  }
}

TEST(Utf8, RefusesWhatRfc3629Refuses) {
  for (const char* text : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
                           "\xFF", "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xC3\x41"}) {
    EXPECT_EQ(character_length(text), 0u) << text;
  }
  EXPECT_EQ(character_length(""), 0u);
}

TEST(Utf8, FindsTheFirstInvalidByte) {
  EXPECT_EQ(first_invalid_byte("caf\xC3\xA9 \x92"), 6u);
  EXPECT_EQ(first_invalid_byte("caf\xC3\xA9"), 5u);
  EXPECT_EQ(first_invalid_byte(""), 0u);
}

TEST(Utf8, ReadsStrayBytesAsCp1252AndKeepsTheRest) {
  EXPECT_EQ(with_cp1252("market\x92s caf\xC3\xA9 fa\xE7"
                        "ade"),
            "market\xE2\x80\x99s caf\xC3\xA9 fa\xC3\xA7"
            "ade");
  EXPECT_EQ(with_cp1252("\x80\x81\xFF"), "\xE2\x82\xAC\xC2\x81\xC3\xBF");
  EXPECT_EQ(with_cp1252("plain"), "plain");
  for (int byte = 0x80; byte < 0x100; ++byte) {
    const std::string repaired = with_cp1252(std::string(1, static_cast<char>(byte)));
    EXPECT_EQ(first_invalid_byte(repaired), repaired.size()) << byte;
  }
}

}  // namespace
}  // namespace switchyard
