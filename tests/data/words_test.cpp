#include "src/data/words.h"

#include "src/data/little_endian.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

std::unique_ptr<Tokenizer> words_of(const std::vector<std::string>& documents, int64_t vocabulary) {
  return train_words(
      [&](const std::function<void(std::string_view)>& visit) {
        for (const std::string& document : documents) visit(document);
      },
      vocabulary);
}

std::vector<std::string> names(const Tokenizer& tokenizer) {
  std::vector<std::string> names;
  for (int32_t id = 0; id < tokenizer.vocabulary(); ++id) names.push_back(tokenizer.name(id));
  return names;
}

// What keras.layers.TextVectorization with its defaults makes of the same text: its standardize is lower case without
// !"#$%&()*+,-./:;<=>?@[\]^_`{|}~', its split is at white space, its ids are 0 for padding, 1 for unknown, then by frequency.
TEST(Words, AreThoseOfKeras) {
  const auto tokenizer = words_of({"The cat sat on the mat. The CAT ran!", "Don't panic -- it's only a cat's mat; re-do it."}, 100);
  EXPECT_EQ(names(*tokenizer),
            (std::vector<std::string>{"<pad>", "[UNK]", "the", "cat", "mat", "a", "cats", "dont", "it", "its", "on", "only", "panic", "ran", "redo", "sat"}));
  EXPECT_EQ(tokenizer->encode("The cat's DON'T, \t dog\n(mat)"), (std::vector<int32_t>{2, 6, 7, 1, 4}));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{2, 6, 7, 1, 4, 0, 0}), "the cats dont [UNK] mat");
}

TEST(Words, PunctuationIsTakenAwayAndNotReplaced) {
  EXPECT_EQ(standardized("a!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'b"), "ab");
  EXPECT_EQ(standardized(" A\tB\nC\vD\fE\rF 0189"), " a\tb\nc\vd\fe\rf 0189");
  const auto tokenizer = words_of({"x"}, 10);
  EXPECT_EQ(tokenizer->encode(" ... -- !? "), std::vector<int32_t>{});
  EXPECT_EQ(tokenizer->encode(""), std::vector<int32_t>{});
  EXPECT_EQ(tokenizer->encode("x\tx\nx\vx\fx\rx").size(), 6u);
}

// Each letter of the ranges that words.h names, from Unicode's table; others stay.
TEST(Words, KnowTheLowerCaseOfLettersOfTwoBytes) {
  EXPECT_EQ(standardized("ÀÉÎÖØÞ×ßÿ"), "àéîöøþ×ßÿ");
  EXPECT_EQ(standardized("ĀĂĮİIJĶĸĹŇŊŒŶŸŹŽſ"), "āăįiijķĸĺňŋœŷÿźžſ");
  EXPECT_EQ(standardized("ΑΡΣΩΫςά"), "αρσωϋςά");
  EXPECT_EQ(standardized("ЀЏАЯЁабя"), "ѐџаяёабя");
  EXPECT_EQ(standardized("Ǆ“—” 日本Ａ😀"), "Ǆ“—” 日本Ａ😀") << "letters that the rule leaves alone, and punctuation that is not ASCII";
}

TEST(Words, EquallyFrequentWordsComeInTheOrderOfTheirBytes) {
  const auto tokenizer = words_of({"zebra apple é Zulu apple", "b"}, 100);
  EXPECT_EQ(names(*tokenizer), (std::vector<std::string>{"<pad>", "[UNK]", "apple", "b", "zebra", "zulu", "é"}));
}

TEST(Words, TheVocabularyHoldsTheMostFrequentOnes) {
  const auto tokenizer = words_of({"a b b c c c d d d d"}, 4);
  EXPECT_EQ(names(*tokenizer), (std::vector<std::string>{"<pad>", "[UNK]", "d", "c"}));
  EXPECT_EQ(tokenizer->encode("a b c d e"), (std::vector<int32_t>{1, 1, 3, 2, 1}));
  EXPECT_EQ(words_of({"a b"}, 1000)->vocabulary(), 4);
}

TEST(Words, OfMoreThan255BytesAreUnknown) {
  const std::string longest(255, 'x'), longer(256, 'y');
  const auto tokenizer = words_of({longest + " " + longer + " " + longer}, 100);
  EXPECT_EQ(tokenizer->vocabulary(), 3);
  EXPECT_EQ(tokenizer->encode(longer + " " + longest), (std::vector<int32_t>{1, 2}));
}

TEST(Words, ATextOfOneMegabyteIsEncodedWhole) {
  const auto tokenizer = words_of({"spam"}, 10);
  std::string text;
  while (text.size() < (1u << 20)) text += "spam ";
  EXPECT_EQ(tokenizer->encode(text), std::vector<int32_t>(text.size() / 5, 2));
  EXPECT_EQ(tokenizer->encode(std::string(1 << 20, 'z')), std::vector<int32_t>{1});
}

TEST(Words, GoThroughATokenizerFile) {
  TemporaryFolder folder;
  const auto tokenizer = words_of({synthetic_text(3000, 5), "Éclair œuvre"}, 500);
  save_tokenizer(*tokenizer, folder.path("words"));
  const auto loaded = load_tokenizer(folder.path("words"));
  EXPECT_EQ(loaded->kind(), TokenizerKind::kWords);
  EXPECT_EQ(names(*loaded), names(*tokenizer));
  EXPECT_EQ(loaded->digest(), tokenizer->digest());
  EXPECT_NE(loaded->digest(), words_of({"other"}, 500)->digest());
  EXPECT_EQ(loaded->encode("water house"), tokenizer->encode("water house"));
}

TEST(Words, ADamagedTokenizerFileIsRefusedAtEveryBit) {
  TemporaryFolder folder;
  save_tokenizer(*words_of({"one two two"}, 10), folder.path("words"));
  const std::string whole = read_whole(folder.path("words"));
  for (size_t size = 0; size < whole.size(); ++size) {
    expect_error(ExitCode::kData, "is not a usable tokenizer", [&] { load_tokenizer(folder.write("cut", whole.substr(0, size))); });
  }
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    expect_error(ExitCode::kData, "tokenizer", [&] { load_tokenizer(folder.write("flipped", flipped)); });
  }
}

std::string payload_of(const std::vector<std::string>& words, uint32_t claimed) {
  std::string bytes;
  append_little_endian(bytes, claimed);
  for (const std::string& word : words) bytes += static_cast<char>(word.size()) + word;
  return bytes;
}

TEST(Words, AForgedListIsRefused) {
  const auto refused = [](const std::vector<std::string>& words, uint32_t claimed, const char* why) {
    expect_error(ExitCode::kData, why, [&] { WordsTokenizer::from_payload(payload_of(words, claimed)); });
  };
  EXPECT_EQ(WordsTokenizer::from_payload(payload_of({"a", "b"}, 2))->vocabulary(), 4);
  refused({"a", "b"}, 3, "ends before its last word");
  refused({"a", "b"}, 1, "ends before its last word, or after it");
  refused({"a"}, 0xFFFFFFFF, "ends before its last word");
  refused({"a", "B"}, 2, "word 3 of the tokenizer breaks the rules");
  refused({"a b"}, 1, "breaks the rules");
  refused({"don't"}, 1, "breaks the rules");
  refused({""}, 1, "breaks the rules");
  refused({"\xFF"}, 1, "breaks the rules");
  refused({"a", "c", "a"}, 3, "words 2 and 4 of the tokenizer are the same");
  expect_error(ExitCode::kData, "ends before its last word", [] { WordsTokenizer::from_payload("abc"); });
}

TEST(Words, ImpossibleRequestsAreRefused) {
  expect_error(ExitCode::kUsage, "vocabulary is 2 but must be from 3 to 1000000", [] { words_of({"a"}, 2); });
  expect_error(ExitCode::kUsage, "vocabulary is 1000001", [] { words_of({"a"}, 1000001); });
  expect_error(ExitCode::kData, "there is no word", [] { words_of({"...", ""}, 10); });
  expect_error(ExitCode::kData, "not UTF-8 at byte 1", [] { words_of({"a\xFF"}, 10); });
  expect_error(ExitCode::kData, "not UTF-8 at byte 2", [] { words_of({"a"}, 10)->encode("ab\x80"); });
  expect_error(ExitCode::kData, "token 3 is outside", [] { words_of({"a"}, 10)->decode(std::vector<int32_t>{3}); });
}

}  // namespace
}  // namespace switchyard
