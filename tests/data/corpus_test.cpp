#include "src/data/corpus.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "src/data/utf8.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

using Texts = std::vector<std::string>;

Texts read(const CorpusOptions& options, CorpusCounts* counts = nullptr) {
  Texts texts;
  const CorpusCounts found = read_documents(options, [&](std::string_view text) { texts.emplace_back(text); });
  if (counts != nullptr) *counts = found;
  return texts;
}

CorpusOptions options_for(const std::string& path, Documents documents) {
  CorpusOptions options;
  options.paths = {path};
  options.documents = documents;
  return options;
}

Texts cut(std::string_view text, Documents documents) {
  TemporaryFolder folder;
  return read(options_for(folder.write("text", text), documents));
}

TEST(Corpus, CutsGcideAtEmptyLinesBeforeUnindentedLines) {
  EXPECT_EQ(cut("\n\nA\n   first\n\n   still A\n\nB\n   x\n\n\nC", Documents::kGcide), (Texts{"A\n   first\n\n   still A", "B\n   x\n", "C"}));
  EXPECT_EQ(cut("A\nB\n C\n", Documents::kGcide), (Texts{"A\nB\n C"}));
  EXPECT_EQ(cut("A\n \nB", Documents::kGcide), (Texts{"A\n \nB"})) << "a line of spaces is not empty";
}

TEST(Corpus, CutsLinesBlankLinesAndFiles) {
  const char* text = "one\ntwo\n\n \t\nthree\r\nfour";
  EXPECT_EQ(cut(text, Documents::kLine), (Texts{"one", "two", "three\r", "four"}));
  EXPECT_EQ(cut(text, Documents::kBlankLine), (Texts{"one\ntwo", "three\r\nfour"}));
  EXPECT_EQ(cut(text, Documents::kFile), (Texts{text}));
  EXPECT_EQ(cut("ends in a line end\n", Documents::kFile), (Texts{"ends in a line end\n"}));
}

TEST(Corpus, DocumentsAndSeparatorsGiveTheTextBack) {
  const std::string text = synthetic_text(2000, 3);
  const std::string without_last_line_end = text.substr(0, text.size() - 1);
  std::string joined;
  for (const std::string& document : cut(without_last_line_end, Documents::kGcide)) joined += document + std::string(separator(Documents::kGcide));
  EXPECT_EQ(joined, without_last_line_end + "\n\n");
}

TEST(Corpus, ReadsGzipLikePlainText) {
  TemporaryFolder folder;
  const std::string text = synthetic_text(200000, 1);
  const Texts plain = read(options_for(folder.write("plain", text), Documents::kGcide));
  EXPECT_EQ(plain.size(), 5000u);
  EXPECT_EQ(read(options_for(folder.write("packed", gzip(text)), Documents::kGcide)), plain);
  EXPECT_EQ(read(options_for(folder.write("two", gzip(text.substr(0, 1000)) + gzip(text.substr(1000))), Documents::kGcide)), plain) << "two members";
}

// The extra field of RFC 1952 with dictzip's subfield RA, as gcide.dict.dz has it.
TEST(Corpus, ReadsDictzip) {
  TemporaryFolder folder;
  std::string packed = gzip("entry one\n");
  packed[3] = 4;  // FLG.FEXTRA
  packed.insert(10, std::string("\x0C\x00RA\x08\x00\x01\x00\x58\xE3\x01\x00\x10\x00", 14));
  EXPECT_EQ(read(options_for(folder.write("x.dict.dz", packed), Documents::kLine)), (Texts{"entry one"}));
}

TEST(Corpus, ReadsSeveralFilesInOrderAndEndsDocumentsWithThem) {
  TemporaryFolder folder;
  CorpusOptions options;
  options.paths = {folder.write("b", "first\n\nsecond"), folder.write("a", "third")};
  CorpusCounts counts;
  options.documents = Documents::kBlankLine;
  EXPECT_EQ(read(options, &counts), (Texts{"first", "second", "third"}));
  EXPECT_EQ(counts.documents, 3);
  EXPECT_EQ(counts.bytes, 18);
  options.documents = Documents::kFile;
  EXPECT_EQ(read(options), (Texts{"first\n\nsecond", "third"}));
}

TEST(Corpus, NamesTheByteThatIsNotUtf8) {
  TemporaryFolder folder;
  const std::string text = "good line\nthe market\x92s drop\n";
  CorpusOptions options = options_for(folder.write("text", text), Documents::kLine);
  expect_error(ExitCode::kData, "is not UTF-8 at byte 20 (0x92)", [&] { read(options); });
  options.encoding = Encoding::kCp1252Fallback;
  CorpusCounts counts;
  EXPECT_EQ(read(options, &counts), (Texts{"good line", "the market\xE2\x80\x99s drop"}));
  EXPECT_EQ(counts.replaced_bytes, 1);
}

TEST(Corpus, RefusesTextWithoutADocument) {
  TemporaryFolder folder;
  expect_error(ExitCode::kData, "holds no text, only 0 bytes", [&] { read(options_for(folder.write("empty", ""), Documents::kLine)); });
  expect_error(ExitCode::kData, "holds no text, only 5 bytes", [&] { read(options_for(folder.write("blank", "\n \t\n\n"), Documents::kGcide)); });
  expect_error(ExitCode::kUsage, "no corpus was named", [&] { read(CorpusOptions{}); });
}

TEST(Corpus, RefusesWhatIsNoReadableFile) {
  TemporaryFolder folder;
  expect_error(ExitCode::kInputOutput, "No such file", [&] { read(options_for(folder.path("absent"), Documents::kLine)); });
  expect_error(ExitCode::kInputOutput, "not a regular file", [&] { read(options_for(folder.path(""), Documents::kLine)); });
  ASSERT_EQ(mkfifo(folder.path("pipe").c_str(), 0600), 0);
  expect_error(ExitCode::kInputOutput, "not a regular file", [&] { read(options_for(folder.path("pipe"), Documents::kLine)); });
}

TEST(Corpus, RefusesDamagedGzip) {
  TemporaryFolder folder;
  const std::string packed = gzip(synthetic_text(5000, 2));
  expect_error(ExitCode::kData, "is damaged after", [&] { read(options_for(folder.write("cut", packed.substr(0, packed.size() / 2)), Documents::kLine)); });
  std::string flipped = packed;
  flipped[packed.size() - 6] = static_cast<char>(flipped[packed.size() - 6] ^ 1);  // in the checksum
  expect_error(ExitCode::kData, "is damaged after", [&] { read(options_for(folder.write("flipped", flipped), Documents::kLine)); });
}

TEST(Corpus, BoundsSizesBeforeMemoryGrows) {
  TemporaryFolder folder;
  CorpusOptions options = options_for(folder.write("text", std::string(5000, 'x') + "\nshort\n"), Documents::kFile);
  options.most_document_bytes = 4096;
  expect_error(ExitCode::kData, "has more than 4096 bytes", [&] { read(options); });
  options.most_document_bytes = 1 << 20;
  options.most_bytes = 4096;
  expect_error(ExitCode::kData, "more than the 4096 bytes", [&] { read(options); });
  options = options_for(folder.write("line", gzip(std::string(3 << 20, 'x'))), Documents::kLine);
  options.most_document_bytes = 1 << 20;
  expect_error(ExitCode::kData, "a line of", [&] { read(options); });
}

TEST(Corpus, RefusesDecompressionBombs) {
  TemporaryFolder folder;
  std::string bomb;
  for (int i = 0; i < 70; ++i) bomb += gzip(std::string(1 << 20, '\n'));
  expect_error(ExitCode::kData, "unpacks to more than 400 times its size", [&] { read(options_for(folder.write("bomb", bomb), Documents::kLine)); });
}

TEST(Corpus, NamesAreThoseOfTheCommandLine) {
  for (const Documents documents : {Documents::kGcide, Documents::kLine, Documents::kBlankLine, Documents::kFile})
    EXPECT_EQ(documents_from(name(documents)), documents);
  for (const Encoding encoding : {Encoding::kUtf8, Encoding::kCp1252Fallback}) EXPECT_EQ(encoding_from(name(encoding)), encoding);
  expect_error(ExitCode::kUsage, "documents is \"page\"", [] { documents_from("page"); });
  expect_error(ExitCode::kUsage, "encoding is \"latin1\"", [] { encoding_from("latin1"); });
}

TEST(HoldOut, DependsOnTheTextAloneAndStaysAsItIs) {
  std::vector<int> chosen;
  int count = 0;
  for (int i = 0; i < 20000; ++i) {
    const bool out = held_out(fmt::format("document {}", i), 50);
    count += out;
    if (out && chosen.size() < 5) chosen.push_back(i);
  }
  EXPECT_NEAR(count, 400, 80);  // four standard deviations
  EXPECT_EQ(chosen, (std::vector<int>{22, 93, 122, 144, 169})) << "another hash: every earlier split and result is void";
  EXPECT_FALSE(held_out("anything", 0));
  EXPECT_TRUE(held_out("anything", 1));
}

}  // namespace
}  // namespace switchyard
