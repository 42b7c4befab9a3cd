// Labelled texts on the command line: from tables and folders to what data.corpus names.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/process_helper.h"

namespace switchyard {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::string table(const char* separator) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += fmt::format("{}{}text number {}\n", i % 2 == 0 ? "pos" : "neg", separator, i);
  return text;
}

TEST(TokenizeLabelled, MakesAFolderOfATable) {
  const Folder folder;
  const Outcome outcome =
      run_program({"tokenize", "--labelled", folder.write("a.tsv", table("\t")), "--output", folder.path("out"), "--vocabulary", "50", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_EQ(report["vocabulary"], 50);
  EXPECT_EQ(report["labels"][0]["name"], "neg");
  EXPECT_EQ(report["train"]["examples"].get<int>() + report["heldout"]["examples"].get<int>(), 100);
  for (const char* name : {"train.examples", "heldout.examples", "tokenizer", "labels"})
    EXPECT_TRUE(std::filesystem::exists(folder.path("out/") + name)) << name;
}

TEST(TokenizeLabelled, TakesColumnsHeadersFormatsAndAHoldOut) {
  const Folder folder;
  const std::string train = folder.write("train.dat", "review,sentiment\n\"good, really\",pos\nbad,neg\n");
  const std::string test = folder.write("test.dat", "review,sentiment\nfine,pos\n");
  const Outcome outcome = run_program({"tokenize", "--labelled", train, "--heldout", test, "--format", "csv", "--label-column", "sentiment", "--text-column",
                                       "review", "--tokenizer", "bytes", "-o", folder.path("out")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("2 examples"));
  EXPECT_THAT(outcome.out, HasSubstr("--set data.corpus=" + folder.path("out")));
}

TEST(TokenizeLabelled, MistakesAreOneSentenceWithTheRightCode) {
  const Folder folder;
  const std::string good = folder.write("a.csv", table(",")), out = folder.path("out");
  const auto refusal = [&](int code, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "tokenize");
    return expect_refusal(run_program(arguments), code);
  };
  EXPECT_THAT(refusal(2, {"--labelled", good}), HasSubstr("tokenize --labelled needs --output DIR"));
  EXPECT_THAT(refusal(2, {"--labelled", good, "-o", out, "--documents", "line"}), HasSubstr("not both"));
  EXPECT_THAT(refusal(2, {"--labelled", good, "-o", out, "--heldout", good, "--hold-out", "5"}), HasSubstr("not both"));
  EXPECT_THAT(refusal(2, {"--heldout", good, "-o", out}), HasSubstr("which --labelled must name, too"));
  EXPECT_THAT(refusal(2, {good, "--tokenizer", "words", "-o", out}), HasSubstr("words are made from labelled texts"));
  EXPECT_THAT(refusal(2, {"--labelled", good, "-o", out, "--format", "xml"}), HasSubstr("format is \"xml\""));
  EXPECT_THAT(refusal(2, {"--labelled", good, "-o", out, "--label-column", "stars"}), HasSubstr("has no column \"stars\""));
  EXPECT_THAT(refusal(65, {"--labelled", folder.write("b.csv", "pos,a\nneg,\"b\n"), "-o", out}),
              HasSubstr("b.csv, line 2: a quote is opened here and never closed"));
  EXPECT_THAT(refusal(65, {"--labelled", good, "--heldout", folder.write("c.csv", "new,a\n"), "-o", out}), HasSubstr("c.csv, line 1: the label \"new\""));
  EXPECT_THAT(refusal(74, {"--labelled", folder.path("absent.tsv"), "-o", out}), HasSubstr("No such file"));
  EXPECT_FALSE(std::filesystem::exists(out));
}

// Enough entries that some are held out.
std::string dictionary() {
  std::string text;
  for (int i = 0; i < 80; ++i) {
    text += fmt::format("qx{0} \\qx{0}\\, {1}\n   {2} {0} more words.\n\n", i, i % 2 == 0 ? "n." : "v. t.", i % 2 == 0 ? "The thing" : "To count");
  }
  return text;
}

TEST(DatasetCommand, MakesTablesTokensOrFolders) {
  const Folder folder;
  const std::string source = folder.write("dictionary", dictionary());
  const Outcome tokens = run_program({"dataset", "gcide-pos", "--source", source, "-o", folder.path("pos")});
  ASSERT_EQ(tokens.code, 0) << tokens.err;
  EXPECT_THAT(tokens.out, HasSubstr("noun"));
  for (const char* name : {"train.tsv", "heldout.tsv", "train.examples", "labels"}) EXPECT_TRUE(std::filesystem::exists(folder.path("pos/") + name)) << name;
  const Outcome folders = run_program({"dataset", "gcide-pos", "--source", source, "--layout", "folders", "-o", folder.path("acl")});
  ASSERT_EQ(folders.code, 0) << folders.err;
  EXPECT_TRUE(std::filesystem::exists(folder.path("acl/train/verb/0.txt")));
  const Outcome again = run_program({"tokenize", "--labelled", folder.path("acl"), "-o", folder.path("again"), "--json"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_GT(json::parse(again.out)["heldout"]["examples"].get<int>(), 0);
}

TEST(DatasetCommand, MistakesAreOneSentenceWithTheRightCode) {
  const Folder folder;
  EXPECT_THAT(expect_refusal(run_program({"dataset", "imdb"}), 2), HasSubstr("there is no data set \"imdb\"; there is gcide-pos"));
  EXPECT_THAT(expect_refusal(run_program({"dataset", "gcide-pos", "--source", folder.path("absent")}), 74), HasSubstr("install Debian's dict-gcide"));
  const std::string source = folder.write("dictionary", dictionary());
  EXPECT_THAT(expect_refusal(run_program({"dataset", "gcide-pos", "--source", source, "--layout", "rows", "-o", folder.path("x")}), 2),
              HasSubstr("layout is \"rows\" but must be tokens or folders"));
  EXPECT_THAT(expect_refusal(run_program({"dataset", "gcide-pos", "--source", source, "-o", folder.path("")}), 2), HasSubstr("already holds something"));
}

}  // namespace
}  // namespace switchyard
