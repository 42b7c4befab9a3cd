#include "src/data/tokenizer.h"

#include <fmt/format.h>

#include "kernels/rng.h"
#include "src/data/little_endian.h"
#include "src/data/sentence_piece.h"
#include "src/data/text_segments.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

DocumentSource documents_of(std::vector<std::string> documents) {
  return [documents](const std::function<void(std::string_view)>& visit) {
    for (const std::string& document : documents) visit(document);
  };
}

// Strings that break tokenizers: controls, the library's own names and marks, all lengths of characters, runs of spaces.
std::string hostile_text(uint64_t seed) {
  static const std::vector<std::string> kParts = {"a",
                                                  "read",
                                                  " water",
                                                  "  ",
                                                  " ",
                                                  "          ",
                                                  "\n",
                                                  "\n\n",
                                                  "\n   ",
                                                  "\n ",
                                                  "\t",
                                                  "\r\n",
                                                  std::string(1, '\0'),
                                                  "\x01",
                                                  "\x1F",
                                                  "\x7F",
                                                  "\xC2\x85",
                                                  "\xC2\xA0",
                                                  "\xE2\x96\x81",
                                                  "\xE2\x96\x81 \xE2\x96\x81",
                                                  "\xE2\x96",
                                                  "\xEF\xBF\xBD",
                                                  "\xEF\xBB\xBF",
                                                  "\xE2\x80\xA8",
                                                  "\xE3\x80\x80",
                                                  "\xF0\x9F\x98\x80",
                                                  "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9",
                                                  "\xF4\x8F\xBF\xBF",
                                                  "\xED\x9F\xBF",
                                                  "\xEE\x80\x80",
                                                  "e\xCC\x81",
                                                  "\xE6\xBC\xA2\xE5\xAD\x97",
                                                  "<unk>",
                                                  "<s>",
                                                  "</s>",
                                                  "<0x41>",
                                                  "<end>",
                                                  "<pad>",
                                                  "\xEF\xAC\x81",
                                                  "\xC3\x9F",
                                                  "1234567",
                                                  "!?.,"};
  std::string text;
  const uint64_t parts = mix64(seed) % 30;
  for (uint64_t i = 0; i < parts; ++i) text += kParts[mix64(seed * 1000 + i) % kParts.size()];
  return with_cp1252(text);  // the broken part above becomes valid text
}

void expect_lossless(const Tokenizer& tokenizer) {
  const std::unique_ptr<Encoder> encoder = tokenizer.encoder();  // remembers words on the way
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    const std::string text = hostile_text(seed);
    std::vector<int32_t> ids;
    encoder->append(text, ids);
    ASSERT_EQ(tokenizer.decode(ids), text) << "seed " << seed;
    ASSERT_EQ(tokenizer.encode(text), ids) << "another encoder, seed " << seed;
    for (const int32_t id : ids) ASSERT_TRUE(id >= 0 && id < tokenizer.vocabulary() && id != tokenizer.end_of_document());
  }
}

TEST(BytesTokenizer, IsLosslessAndHasTheNumbersOfBytes) {
  const auto tokenizer = make_bytes_tokenizer();
  EXPECT_EQ(tokenizer->vocabulary(), 257);
  EXPECT_EQ(tokenizer->encode("Az\n\xC3\xA9"), (std::vector<int32_t>{'A', 'z', '\n', 0xC3, 0xA9}));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{'A', 256, 'B'}), "AB");
  EXPECT_EQ(tokenizer->end_of_document(), 256);
  EXPECT_EQ(tokenizer->name('A'), "A");
  EXPECT_EQ(tokenizer->name(10), "<0x0A>");
  EXPECT_EQ(tokenizer->name(256), "<end>");
  expect_lossless(*tokenizer);
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8AndTokensOutsideTheVocabulary) {
  const auto bytes = make_bytes_tokenizer();
  expect_error(ExitCode::kData, "not UTF-8 at byte 3 (0x92)", [&] { bytes->encode("abc\x92"); });
  expect_error(ExitCode::kData, "token 257 is outside", [&] { bytes->decode(std::vector<int32_t>{1, 257}); });
  expect_error(ExitCode::kData, "token -1 is outside", [&] { bytes->piece(-1); });
}

TEST(Segments, CutTextWithoutLosingAByte) {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    const std::string text = hostile_text(seed) + std::string(seed % 7 * 400, seed % 2 == 0 ? ' ' : 'x');
    std::string joined;
    cut_segments(
        text, [&](int spaces) { joined += "\n" + std::string(static_cast<size_t>(spaces), ' '); }, [&](uint8_t byte) { joined += static_cast<char>(byte); },
        [&](std::string_view word) {
          ASSERT_FALSE(word.empty());
          ASSERT_LE(word.size(), kMostWordBytes);
          ASSERT_EQ(first_invalid_byte(word), word.size()) << "a character was cut";
          ASSERT_EQ(word.find('\n'), word.npos);
          joined += word;
        });
    ASSERT_EQ(joined, text) << "seed " << seed;
  }
}

TEST(Segments, GiveIndentationToTheLineEndAndOneSpaceToTheWord) {
  std::string seen;
  cut_segments(
      "a  b\n   c\n\nd\n e", [&](int spaces) { seen += fmt::format("[+{}]", spaces); }, [&](uint8_t) {},
      [&](std::string_view word) { seen += fmt::format("({})", word); });
  EXPECT_EQ(seen, "(a)(  b)[+2]( c)[+0][+0](d)[+0]( e)");
}

class SentencePiece : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    tokenizer_ = train_sentencepiece(documents_of({synthetic_text(20000, 1), "caf\xC3\xA9 \xE6\xBC\xA2 <unk> <0x41> 12"}), 560).release();
  }
  static void TearDownTestSuite() {
    delete tokenizer_;
    tokenizer_ = nullptr;
  }
  static const SentencePieceTokenizer& tokenizer() { return static_cast<const SentencePieceTokenizer&>(*tokenizer_); }
  static const Tokenizer* tokenizer_;
};
const Tokenizer* SentencePiece::tokenizer_ = nullptr;

TEST_F(SentencePiece, IsLosslessForAnyText) { expect_lossless(tokenizer()); }

TEST_F(SentencePiece, HasTheVocabularyAskedForAndWordsAsPieces) {
  EXPECT_EQ(tokenizer().vocabulary(), 560);
  EXPECT_EQ(tokenizer().encode(" water").size(), 1u);
  EXPECT_EQ(tokenizer().encode("\n   water"), (std::vector<int32_t>{kFirstLineEnd + 2, tokenizer().encode(" water")[0]}));
  EXPECT_LT(tokenizer().encode(synthetic_text(1000, 2)).size(), 2000u);
}

TEST_F(SentencePiece, FallsBackToBytes) {
  EXPECT_EQ(tokenizer().encode("\xF0\x9F\x98\x80"), (std::vector<int32_t>{kFirstByte + 0xF0, kFirstByte + 0x9F, kFirstByte + 0x98, kFirstByte + 0x80}));
  EXPECT_EQ(tokenizer().encode(std::string(1, '\0')), std::vector<int32_t>{kFirstByte});
  EXPECT_EQ(tokenizer().encode("\xE2\x96\x81"), (std::vector<int32_t>{kFirstByte + 0xE2, kFirstByte + 0x96, kFirstByte + 0x81}));
}

// The best segmentation of a line is that of its words: what text_segments.h builds on.
TEST_F(SentencePiece, EncodesALineAsItsWords) {
  for (const char* line :
       {"the water of the northless field", " readful   stones, and  a  house", "paperingly   ", "    ", "windsmarks12caf\xC3\xA9 \xE6\xBC\xA2"}) {
    std::vector<int32_t> whole;
    tokenizer().append_word(line, whole);
    EXPECT_EQ(tokenizer().encode(line), whole) << line;
  }
}

TEST_F(SentencePiece, NamesTokensForPeople) {
  EXPECT_EQ(tokenizer().name(0), "<end>");
  EXPECT_EQ(tokenizer().name(3), "<line+2>");
  EXPECT_EQ(tokenizer().name(kFirstByte + 65), "<0x41>");
  EXPECT_EQ(tokenizer().name(tokenizer().encode(" water")[0]), " water");
}

TEST_F(SentencePiece, IsTheSameForTheSameDocuments) {
  const auto documents = documents_of({synthetic_text(3000, 1), synthetic_text(3000, 2)});
  const auto first = train_sentencepiece(documents, 512), second = train_sentencepiece(documents, 512);
  EXPECT_EQ(first->digest(), second->digest());
  EXPECT_NE(first->digest(), tokenizer().digest());
}

TEST_F(SentencePiece, TrainsOnASampleThatDependsOnLineNumbersAlone) {
  const auto documents = documents_of({synthetic_text(20000, 1), synthetic_text(20000, 2)});
  const auto sampled = train_sentencepiece(documents, 512, 1000);
  EXPECT_EQ(sampled->digest(), train_sentencepiece(documents, 512, 1000)->digest());
  EXPECT_NE(sampled->digest(), train_sentencepiece(documents, 512)->digest());
}

TEST_F(SentencePiece, TrainsOnTextWithoutLineEndsOrSpaces) {
  std::string text;
  for (uint64_t i = 0; i < 20000; ++i) text += static_cast<char>('a' + mix64(i) % 20);
  const auto trained = train_sentencepiece(documents_of({text}), 512);
  EXPECT_EQ(trained->decode(trained->encode(text)), text);
}

TEST_F(SentencePiece, TellsWhenItCannotBeTrained) {
  const auto little = documents_of({"a little text"});
  expect_error(ExitCode::kData, "1 lines of text give a vocabulary of", [&] { train_sentencepiece(little); });
  // More letters than there is room for.
  std::string letters;
  for (int i = 0; i < 1000; ++i) letters += with_cp1252(std::string{static_cast<char>(0xC4 + i % 8), static_cast<char>(0x80 + i / 8 % 64)}) + " ";
  expect_error(ExitCode::kData, "SentencePiece cannot make a vocabulary of 384", [&] { train_sentencepiece(documents_of({letters}), 384); });
  expect_error(ExitCode::kUsage, "vocabulary is 383 but must be from 384", [&] { train_sentencepiece(little, 383); });
  expect_error(ExitCode::kUsage, "vocabulary is 1000001", [&] { train_sentencepiece(little, 1000001); });
  expect_error(ExitCode::kData, "there is no text to train", [&] { train_sentencepiece(documents_of({"\n\n"})); });
}

TEST_F(SentencePiece, IsTheSameFromItsFile) {
  TemporaryFolder folder;
  save_tokenizer(tokenizer(), folder.path("tokenizer"));
  const auto loaded = load_tokenizer(folder.path("tokenizer"));
  EXPECT_EQ(loaded->digest(), tokenizer().digest());
  EXPECT_EQ(loaded->kind(), TokenizerKind::kSentencePiece);
  const std::string text = synthetic_text(1000, 9);
  EXPECT_EQ(loaded->encode(text), tokenizer().encode(text));
}

TEST(TokenizerFile, HoldsABytesTokenizer) {
  TemporaryFolder folder;
  save_tokenizer(*make_bytes_tokenizer(), folder.path("tokenizer"));
  EXPECT_EQ(load_tokenizer(folder.path("tokenizer"))->digest(), make_bytes_tokenizer()->digest());
  EXPECT_EQ(std::filesystem::file_size(folder.path("tokenizer")), 40u);
}

std::string small_tokenizer_file(const TemporaryFolder& folder) {
  save_tokenizer(SentencePieceTokenizer({{" the", -2.5f}, {"re", -3.0f}, {"  ", -4.0f}, {"\xC3\xA9", -5.0f}}), folder.path("tokenizer"));
  return read_whole(folder.path("tokenizer"));
}

TEST(TokenizerFile, RefusesEveryTruncationAndEveryFlippedBit) {
  TemporaryFolder folder;
  const std::string whole = small_tokenizer_file(folder);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string path = folder.write("cut", whole.substr(0, size));
    expect_error(ExitCode::kData, "is not a usable tokenizer", [&] { load_tokenizer(path); });
  }
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const std::string path = folder.write("flipped", flipped);
    expect_error(ExitCode::kData, "is not a usable tokenizer", [&] { load_tokenizer(path); });
  }
}

TEST(TokenizerFile, RefusesWhatIsNoTokenizer) {
  TemporaryFolder folder;
  expect_error(ExitCode::kInputOutput, "cannot open tokenizer", [&] { load_tokenizer(folder.path("absent")); });
  const std::string text = folder.write("text", std::string(100, 'x'));
  expect_error(ExitCode::kData, "it does not begin with SWYTOKNZ", [&] { load_tokenizer(text); });
}

// Lists of pieces that only a forger writes: what reaches the library is checked piece by piece.
TEST(TokenizerFile, RefusesForgedPieces) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const LearnedPiece& piece : {LearnedPiece{"", -1},
                                    {"a b", -1},
                                    {" a ", -1},
                                    {"\n", -1},
                                    {"a\n", -1},
                                    {std::string(1, '\0'), -1},
                                    {"\xE2\x96\x81", -1},
                                    {"\xFF", -1},
                                    {std::string(256, 'a'), -1},
                                    {"<unk>", -1},
                                    {"<0x41>", -1},
                                    {"a", infinity},
                                    {"a", std::nanf("")}}) {
    expect_error(ExitCode::kData, "learned piece 1 of the tokenizer breaks the rules", [&] { SentencePieceTokenizer tokenizer({{"ok", -1}, piece}); });
  }
  expect_error(ExitCode::kData, "learned piece 1 of", [&] { SentencePieceTokenizer tokenizer({{"twice", -1}, {"twice", -2}}); });

  std::string payload = SentencePieceTokenizer({{"ok", -1}}).payload();
  EXPECT_EQ(SentencePieceTokenizer::from_payload(payload)->vocabulary(), 274);
  for (size_t size = 0; size < payload.size(); ++size) {
    expect_error(ExitCode::kData, "list of pieces ends before", [&] { SentencePieceTokenizer::from_payload(std::string_view(payload).substr(0, size)); });
  }
  expect_error(ExitCode::kData, "or after it", [&] { SentencePieceTokenizer::from_payload(payload + "x"); });
  payload.replace(0, 4, "\xFF\xFF\xFF\xFF");
  expect_error(ExitCode::kData, "list of pieces ends before", [&] { SentencePieceTokenizer::from_payload(payload); });
}

}  // namespace
}  // namespace switchyard
