#include "src/data/labelled_text.h"

#include <fmt/format.h>

#include <filesystem>

#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

struct Seen {
  std::string label, text;
  int64_t line = 0;
  bool operator==(const Seen&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Seen& seen) { return out << seen.line << ": [" << seen.label << "] [" << seen.text << "]"; }

std::vector<Seen> read(const LabelledOptions& options) {
  std::vector<Seen> seen;
  read_labelled(options, [&](const LabelledExample& example) { seen.push_back({std::string(example.label), std::string(example.text), example.line}); });
  return seen;
}

class LabelledTextTest : public testing::Test {
 protected:
  LabelledOptions file(const std::string& name, std::string_view bytes) {
    LabelledOptions options;
    options.paths = {folder_.write(name, bytes)};
    return options;
  }
  void expect_bad(const std::string& name, std::string_view bytes, const std::string& words, ExitCode code = ExitCode::kData) {
    const LabelledOptions options = file(name, bytes);
    expect_error(code, words, [&] { read(options); });
  }
  void text(const std::string& name, std::string_view bytes) {
    std::filesystem::create_directories(std::filesystem::path(folder_.path(name)).parent_path());
    folder_.write(name, bytes);
  }
  LabelledOptions at(const std::string& name) {
    LabelledOptions options;
    options.paths = {folder_.path(name)};
    return options;
  }
  TemporaryFolder folder_;
};

TEST_F(LabelledTextTest, TsvIsALabelATabAndTheRestOfTheLine) {
  EXPECT_EQ(read(file("a.tsv", "pos\tgood film\nneg\tbad\tfilm, \"very\"\r\n\n 1 \t\n2\tlast")),
            (std::vector<Seen>{{"pos", "good film", 1}, {"neg", "bad\tfilm, \"very\"", 2}, {"1", "", 4}, {"2", "last", 5}}));
}

TEST_F(LabelledTextTest, TsvWithAHeader) {
  EXPECT_EQ(read(file("a.tsv", "id\tText\tLABEL\n7\tgood\tpos\n")), (std::vector<Seen>{{"pos", "good", 2}}));
  EXPECT_EQ(read(file("b.tsv", "label\ttext\npos\tgood\tfilm\n")), (std::vector<Seen>{{"pos", "good\tfilm", 2}}));
  LabelledOptions options = file("c.tsv", "sentiment\treview\nneg\tbad\n");
  options.header = true;
  EXPECT_EQ(read(options), (std::vector<Seen>{{"neg", "bad", 2}}));
  options.header = false;
  EXPECT_EQ(read(options).size(), 2u) << "names that nobody knows are an example like others";
}

TEST_F(LabelledTextTest, TsvNamesTheLineWithoutATab) {
  expect_bad("a.tsv", "pos\tgood\nneg bad\n", "a.tsv, line 2: expected 2 columns with tabs between them, found 1");
  expect_bad("b.tsv", "pos\tgood\n\tbad\n", "b.tsv, line 2: the label is empty");
  expect_bad("c.tsv", "pos\tgood\n" + std::string(300, 'x') + "\tbad\n", "c.tsv, line 2: a label of 300 bytes, where 256 are allowed");
}

TEST_F(LabelledTextTest, CsvHasQuotesWithCommasQuotesAndLineEnds) {
  EXPECT_EQ(read(file("a.csv", "pos,good\r\nneg,\"bad, \"\"very\"\" bad\nfilm\"\n\"so, so\",\"\"\n\n3,last")),
            (std::vector<Seen>{{"pos", "good", 1}, {"neg", "bad, \"very\" bad\nfilm", 2}, {"so, so", "", 4}, {"3", "last", 6}}));
}

TEST_F(LabelledTextTest, CsvWithAHeaderInAnyOrder) {
  EXPECT_EQ(read(file("a.csv", "\xEF\xBB\xBFid,text,label\n7,\"a, b\",pos\n")), (std::vector<Seen>{{"pos", "a, b", 2}})) << "with a byte order mark";
  LabelledOptions options = file("b.csv", "review,sentiment\n\"fine\nfilm\",pos\nbad,neg\n");
  options.label_column = "Sentiment";
  options.text_column = "review";
  EXPECT_EQ(read(options), (std::vector<Seen>{{"pos", "fine\nfilm", 2}, {"neg", "bad", 4}}));
  options.label_column = "2";
  options.text_column = "1";
  EXPECT_EQ(read(options)[0], (Seen{"sentiment", "review", 1})) << "numbers do not make the first row a header";
  options.header = true;
  EXPECT_EQ(read(options)[0], (Seen{"pos", "fine\nfilm", 2}));
}

// A file is read in chunks of 256 KiB: a state that is lost between two of them would show.
TEST_F(LabelledTextTest, RowsMayCrossTheChunksOfAFile) {
  std::string bytes, filler(997, 'x');
  for (int i = 0; i < 2000; ++i) bytes += fmt::format("{},\"{} \"\"{}\"\",\r\n{}\"\r\n", i % 2, i, filler, i);
  const std::vector<Seen> seen = read(file("a.csv", bytes));
  ASSERT_EQ(seen.size(), 2000u);
  for (int i = 0; i < 2000; ++i) {
    ASSERT_EQ(seen[static_cast<size_t>(i)], (Seen{fmt::format("{}", i % 2), fmt::format("{} \"{}\",\r\n{}", i, filler, i), 1 + 2 * i}));
  }
}

TEST_F(LabelledTextTest, ABrokenQuoteIsNamedWithItsLine) {
  expect_bad("a.csv", "pos,good\nneg,\"never\nclosed\n", "a.csv, line 2: a quote is opened here and never closed");
  expect_bad("b.csv", "pos,good\nneg,bad \"film\"\n", "b.csv, line 2: a quote stands inside a field that does not begin with one");
  expect_bad("c.csv", "pos,good\nneg,\"bad\nfilm\" x\n", "c.csv, line 3: the quote that was opened in line 2 is closed, but the field goes on");
  expect_bad("d.csv", "pos,\"good\"\rneg,bad\n", "d.csv, line 1: the quote that was opened in line 1 is closed");
  EXPECT_EQ(read(file("e.csv", "pos,\"at the end\"")), (std::vector<Seen>{{"pos", "at the end", 1}}));
}

TEST_F(LabelledTextTest, ACsvRowOfOtherLengthIsNamedWithItsLine) {
  expect_bad("a.csv", "pos,good\nneg,bad, film\n", "a.csv, line 2: a row of 3 columns, where the first one has 2; put texts with commas in quotes");
  expect_bad("b.csv", "pos,good\n\nneg\n", "b.csv, line 3: a row of 1 columns");
  expect_bad("c.csv", "pos;good\n", "c.csv, line 1: found 1 columns, where label and text are columns 1 and 2");
  expect_bad("d.csv", std::string(20000, ',') + "\n", "d.csv, line 1: a row of more than 10000 columns");
}

TEST_F(LabelledTextTest, AColumnThatIsNotThereIsNamed) {
  LabelledOptions options = file("a.csv", "text,class\nfine,pos\n");
  options.label_column = "label";
  expect_error(ExitCode::kUsage, "a.csv has no column \"label\" but \"text\", \"class\"", [&] { read(options); });
  options.label_column = "class";
  EXPECT_EQ(read(options), (std::vector<Seen>{{"pos", "fine", 2}})) << "the text's column has its usual name";
  options.text_column = "2";
  expect_error(ExitCode::kUsage, "label and text are both column 2", [&] { read(options); });
  options.text_column = "0";
  expect_error(ExitCode::kUsage, "columns are numbered from 1", [&] { read(options); });
  options.label_column = "5";
  options.text_column = "1";
  expect_error(ExitCode::kData, "a.csv, line 1: found 2 columns, where label and text are columns 5 and 1", [&] { read(options); });
}

TEST_F(LabelledTextTest, JsonlTakesStringsNumbersAndTruthAsLabels) {
  EXPECT_EQ(read(file("a.jsonl",
                      "{\"label\": \"pos\", \"text\": \"a\\tb\\n\\u00e9\"}\n\n{\"text\": \"\", \"id\": [1], \"label\": 3}\r\n{\"label\": true, \"text\": "
                      "\"x\"}")),
            (std::vector<Seen>{{"pos", "a\tb\n\u00e9", 1}, {"3", "", 3}, {"true", "x", 4}}));
  LabelledOptions options = file("b.ndjson", "{\"stars\": 5, \"review\": \"fine\"}\n");
  options.label_column = "stars";
  options.text_column = "review";
  EXPECT_EQ(read(options), (std::vector<Seen>{{"5", "fine", 1}}));
}

TEST_F(LabelledTextTest, ABrokenJsonLineIsNamed) {
  const std::string good = "{\"label\": \"a\", \"text\": \"b\"}\n";
  expect_bad("a.jsonl", good + "{\"label\": \"a\", \"text\": \"b\"\n", "a.jsonl, line 2: expected a JSON object like {\"label\": ..., \"text\": ...}");
  expect_bad("b.jsonl", good + "[1, 2]\n", "b.jsonl, line 2: expected a JSON object");
  expect_bad("c.jsonl", good + "{\"text\": \"b\"}\n", "c.jsonl, line 2: the object has no member \"label\"");
  expect_bad("d.jsonl", good + "{\"label\": null, \"text\": \"b\"}\n", "d.jsonl, line 2: the object has no member \"label\" that is");
  expect_bad("e.jsonl", good + "{\"label\": \"a\", \"text\": 7}\n", "e.jsonl, line 2: the object has no member \"text\" that is a string");
  expect_bad("f.jsonl", good + "{\"label\": \"a\", \"text\": \"\\ud800\"}\n", "f.jsonl, line 2: expected a JSON object");
  expect_bad("g.jsonl", std::string(100000, '[') + "\n", "g.jsonl, line 1: expected a JSON object");
}

TEST_F(LabelledTextTest, AFolderHoldsAFolderForEachClass) {
  text("root/pos/0_9.txt", "good\nfilm\n");
  text("root/pos/1_7.txt", "");
  text("root/neg/b.txt.gz", gzip("bad\r\n"));
  text("root/neg/a.txt", "worse");
  text("root/neg/notes.md", "no text");
  text("root/neg/.hidden.txt", "no text");
  text("root/urls.txt", "no class");
  text("root/.cache/x.txt", "no class");
  EXPECT_EQ(read(at("root")), (std::vector<Seen>{{"neg", "worse", 0}, {"neg", "bad", 0}, {"pos", "good\nfilm", 0}, {"pos", "", 0}}));
}

TEST_F(LabelledTextTest, TextsWithoutLabelInAclImdbsLayoutAreLeftOut) {
  text("root/pos/1.txt", "good");
  text("root/unsup/1.txt", "who knows");
  const LabelledCounts counts = read_labelled(at("root"), [](const LabelledExample& example) { EXPECT_EQ(example.label, "pos"); });
  EXPECT_TRUE(counts.left_out_unsup);
  EXPECT_EQ(counts.examples, 1);
}

TEST_F(LabelledTextTest, FoldersWithoutFilesAreNamed) {
  text("root/pos/1.txt", "good");
  std::filesystem::create_directories(folder_.path("root/neg"));
  expect_error(ExitCode::kData, "root/neg holds no .txt file", [&] { read(at("root")); });
  std::filesystem::create_directories(folder_.path("empty"));
  expect_error(ExitCode::kData, "empty holds no folder of a class; expected FOLDER/CLASS/*.txt", [&] { read(at("empty")); });
  expect_error(ExitCode::kData, "holds no folder of a class", [&] { read(at("root/pos")); });
}

TEST_F(LabelledTextTest, TrainAndTestFoldersAreFound) {
  text("acl/train/pos/1.txt", "good");
  EXPECT_FALSE(train_and_test_folders(folder_.path("acl")));
  text("acl/test/pos/1.txt", "good");
  const auto found = train_and_test_folders(folder_.path("acl"));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->first, folder_.path("acl/train"));
  EXPECT_EQ(found->second, folder_.path("acl/test"));
  text("vehicles/train/1.txt", "a train");
  text("vehicles/test/1.txt", "a test");
  EXPECT_FALSE(train_and_test_folders(folder_.path("vehicles"))) << "these are classes";
}

TEST_F(LabelledTextTest, AllFormatsMayBeGzipAndGiveTheSame) {
  const std::vector<Seen> expected = {{"pos", "good", 1}, {"neg", "bad", 2}};
  EXPECT_EQ(read(file("a.tsv.gz", gzip("pos\tgood\nneg\tbad\n"))), expected);
  EXPECT_EQ(read(file("a.csv.gz", gzip("pos,good\nneg,bad\n"))), expected);
  EXPECT_EQ(read(file("a.jsonl.gz", gzip("{\"label\":\"pos\",\"text\":\"good\"}\n{\"label\":\"neg\",\"text\":\"bad\"}\n"))), expected);
  const std::string whole = gzip(synthetic_text(5000, 3));
  expect_bad("cut.tsv.gz", std::string_view(whole).substr(0, whole.size() / 2), "is damaged after");
}

TEST_F(LabelledTextTest, BytesThatAreNotUtf8AreNamedOrReadAsWindows1252) {
  for (const auto& [name, bytes] : {std::pair{"a.tsv", "pos\tgood\nneg\tna\xEFve\n"}, std::pair{"a.csv", "pos,good\nneg,na\xEFve\n"},
                                    std::pair{"a.jsonl", "{\"label\":\"pos\",\"text\":\"good\"}\n{\"label\":\"neg\",\"text\":\"na\xEFve\"}\n"}}) {
    LabelledOptions options = file(name, bytes);
    expect_error(ExitCode::kData, std::string(name) + ", line 2: byte", [&] { read(options); });
    expect_error(ExitCode::kData, "is not UTF-8 (0xef); convert it, or read it with --encoding cp1252-fallback", [&] { read(options); });
    options.encoding = Encoding::kCp1252Fallback;
    EXPECT_EQ(read(options)[1], (Seen{"neg", "na\u00efve", 2}));
    EXPECT_EQ(read_labelled(options, [](const LabelledExample&) {}).replaced_bytes, 1);
  }
  text("root/pos/x.txt", "na\xEFve");
  expect_error(ExitCode::kData, "root/pos/x.txt: byte 2 of the field or file is not UTF-8", [&] { read(at("root")); });
}

TEST_F(LabelledTextTest, ATextOfOneMegabyteIsReadAndOneBeyondTheLimitIsNot) {
  const std::string large(1 << 20, 'x');
  EXPECT_EQ(read(file("a.tsv", "pos\t" + large + "\nneg\tbad\n"))[0].text, large);
  EXPECT_EQ(read(file("a.csv", "pos,\"" + large + "\"\nneg,bad\n"))[0].text, large);
  text("root/pos/1.txt", large);
  EXPECT_EQ(read(at("root"))[0].text, large);

  LabelledOptions options = file("b.tsv", "pos\tgood\nneg\t" + large + "\n");
  options.most_text_bytes = 100000;
  expect_error(ExitCode::kData, "b.tsv, line 2: a line of more than 100000 bytes", [&] { read(options); });
  options = file("b.csv", "pos,good\nneg,\"" + large + "\n");
  options.most_text_bytes = 100000;
  expect_error(ExitCode::kData, "b.csv, line 2: a row of more than 100000 bytes; is the quote of line 2 ever closed?", [&] { read(options); });
  options = at("root");
  options.most_text_bytes = 100000;
  expect_error(ExitCode::kData, "root/pos/1.txt has more than the 100000 bytes that one text may have", [&] { read(options); });
  options.most_text_bytes = 10 << 20;
  options.most_bytes = 1 << 19;
  expect_error(ExitCode::kData, "bytes that are left for it", [&] { read(options); });
}

TEST_F(LabelledTextTest, WhatHoldsNoExampleOrHasNoFormatIsRefused) {
  expect_bad("a.tsv", "", "a.tsv holds no example");
  expect_bad("a.csv", "label,text\n", "a.csv holds no example");
  expect_bad("a.jsonl", "\n\n", "a.jsonl holds no example");
  expect_bad("reviews.dat", "pos\tgood\n", "does not tell its format, as .tsv, .csv or .jsonl would; name it with --format", ExitCode::kUsage);
  LabelledOptions options = file("reviews.dat", "pos\tgood\n");
  options.format = labelled_format_from("tsv");
  EXPECT_EQ(read(options).size(), 1u);
  expect_error(ExitCode::kInputOutput, "cannot open", [&] { read(at("absent.tsv")); });
  expect_error(ExitCode::kUsage, "no labelled text was named", [] { read(LabelledOptions{}); });
  expect_error(ExitCode::kUsage, "format is \"xml\" but must be auto, tsv, csv or jsonl", [] { labelled_format_from("xml"); });
}

TEST_F(LabelledTextTest, SeveralFilesAndFoldersAreReadInTheirOrder) {
  LabelledOptions options = file("a.tsv", "pos\tgood\n");
  text("root/neg/1.txt", "bad");
  options.paths = {folder_.path("root"), options.paths[0], folder_.write("b.csv", "neg,worse\n")};
  EXPECT_EQ(read(options), (std::vector<Seen>{{"neg", "bad", 0}, {"pos", "good", 1}, {"neg", "worse", 1}}));
}

}  // namespace
}  // namespace switchyard
