#include "src/data/gcide_pos.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "src/data/labelled_dataset.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

std::string show(std::string_view entry, std::string_view next = {}) {
  const auto example = part_of_speech(entry, next);
  return example ? example->headword + " | " + example->label + " | " + example->text : "none";
}

TEST(GcideEntry, KeepsWhatTheDefinitionSays) {
  EXPECT_EQ(show("Dichotomize \\Di*chot\"o*mize\\, v. t. [imp. & p. p.\n   {Dichotomized}; p. pr. & vb. n. {Dichotomizing}.] [See\n   {Dichotomous}.]\n"
                 "   1. To cut into two parts; to part into two divisions; to\n      divide into pairs; to bisect. [R.]\n      [1913 Webster]\n\n"
                 "            The apostolical benediction dichotomizes all good\n            things into grace and peace.          --Bp. Hall.\n"
                 "      [1913 Webster]\n\n"
                 "   2. (Astron.) To exhibit as a half disk. See {Dichotomy}, 3.\n      \"[The moon] was dichotomized.\" --Whewell.\n      [1913 Webster]"),
            "dichotomize | verb | To cut into two parts; to part into two divisions; to divide into pairs; to bisect. To exhibit as a half disk. See 3. was");
}

TEST(GcideEntry, LeavesOutDerivedWordsSynonymsNotesAndPhrases) {
  EXPECT_EQ(show("Dichotomous \\Di*chot\"o*mous\\, a. [L. dichotomos.]\n   Regularly dividing by pairs from bottom to top; as, a\n   dichotomous stem. -- "
                 "{Di*chot\"o*mous*ly}, adv.\n   [1913 Webster]\n\n   Syn: forked, n.\n\n   Note: The adverb is rare.\n\n   {Dichotomous key}, n. a table."),
            "dichotomous | adjective | Regularly dividing by pairs from bottom to top; as, a stem.");
  EXPECT_EQ(show("Acicular \\A*cic\"u*lar\\, a.\n   Needle-shaped; slender like a needle, n.; or (adv.) bristle, adv.. A*cic\"u*lar*ly, adv.\n   (a) sharp (R. "
                 "C. Ch.) "
                 "points (Eng. Law) (see below)\n   [1913 Webster]"),
            "acicular | adjective | Needle-shaped; slender like a needle, or bristle, sharp points (see below)");
}

// The words that a model could know the answer from, or the headword by, are gone.
TEST(GcideEntry, LeavesOutEveryFormOfTheHeadword) {
  EXPECT_EQ(show("Run \\Run\\ (r[u^]n), v. i. [imp. {Ran} (r[a^]n); p. p. {Run}; p. pr. & vb. n.\n   {Running}.]\n   To run or ran, running, on foot; a "
                 "runner's Runs, "
                 "a runcinate rundown way. [Obs.]"),
            "run | verb | To or on foot; a a runcinate way.");
  EXPECT_EQ(show("Dickey \\Dick\"ey\\, Dicky \\Dick\"y\\, n.\n   A false dickey or Dicky's dickeys; a detachable shirt front. \"Dick.\""),
            "dickey | noun | A false or a detachable shirt front. \"Dick.\"");
  EXPECT_EQ(show("Man of war \\Man of war\\, n.\n   A ship of war that men of a navy sail. Warlike."),
            "man of war | noun | A ship of war that men of a navy sail. Warlike.");
}

TEST(GcideEntry, ReadsSpecialLettersAndDropsOtherBrackets) {
  EXPECT_EQ(show("X \\X\\, n.\n   One of the C[ae]sars of Rome [see [L. caesar] above], call[=e]d so, [\n   and not [unclosed"),
            "x | noun | One of the Caesars of Rome called so, and not unclosed");
}

TEST(GcideEntry, TakesOnePartOfSpeechOnly) {
  const char* text = "\n   A text that has enough words.";
  for (const auto& [mark, label] : {std::pair{"n.", "noun"},
                                    {"n.; pl. {Xes}.", "noun"},
                                    {"n. pl.", "noun"},
                                    {"a.", "adjective"},
                                    {"adj.", "adjective"},
                                    {"adv.", "adverb"},
                                    {"v. t.", "verb"},
                                    {"v. i.", "verb"},
                                    {"v. t. & i.", "verb"},
                                    {"v.t.", "verb"},
                                    {"v.", "verb"}}) {
    EXPECT_EQ(show(std::string("Qqq \\Qqq\\, ") + mark + text), std::string("qqq | ") + label + " | A text that has enough words.") << mark;
    EXPECT_EQ(show(std::string("Qqq \\Qqq\\") + mark + text), std::string("qqq | ") + label + " | A text that has enough words.")
        << "without a comma: " << mark;
  }
  for (const char* mark : {"a. & n.", "n. & v. t.", "adj. & adv.", "n. or interj.", "interj.", "prep.", "p. p.", "imp. of {Qs}.", "prop. n.", "", "nothing"}) {
    EXPECT_EQ(show(std::string("Qqq \\Qqq\\, ") + mark + text), "none") << mark;
  }
}

TEST(GcideEntry, WhatIsNoEntryOrSaysTooLittleIsNoExample) {
  for (const char* entry : {"", "\\", "A \\", "word", "60 minutes n.\n   a program of many words here", "X \\X\\, n.", "X \\X\\, n.\n   Only three words.",
                            "X \\X\\, n.\n   See {X}, n.\n   [1913 Webster]", "Over\ntwo lines \\Over\\, n.\n   A text that has enough words."}) {
    EXPECT_EQ(show(entry), "none") << entry;
  }
}

TEST(GcideEntry, TheFirstWordsOfTheNextEntryAreNoPartOfThisOne) {
  const std::string entry = "Dicker \\Dick\"er\\, v. i.\n   To negotiate a bargain; to barter goods. Dog days";
  EXPECT_EQ(show(entry, "Dog days \\Dog days\\, n.\n   hot"), "dicker | verb | To negotiate a bargain; to barter goods.");
  EXPECT_EQ(show(entry, "Cat \\Cat\\, n."), "dicker | verb | To negotiate a bargain; to barter goods. Dog days");
}

// The dictionary that launch/install.sh installs.
class GcidePos : public testing::Test {
 protected:
  struct Example {
    PartOfSpeech entry;
    bool held_out;
  };
  static const std::vector<Example>& examples() {
    static const std::vector<Example> all = [] {
      std::vector<Example> examples;
      read_gcide_pos(kGcidePath, [&](const PartOfSpeech& entry, bool held_out) { examples.push_back({entry, held_out}); });
      return examples;
    }();
    return all;
  }
};

TEST_F(GcidePos, HasSixtyThousandExamplesOfFourClasses) {
  std::map<std::string, double> classes;
  double held_out = 0;
  for (const Example& example : examples()) {
    ++classes[example.entry.label];
    held_out += example.held_out;
  }
  const double all = static_cast<double>(examples().size());
  EXPECT_GE(all, 60000);
  EXPECT_EQ(classes.size(), 4u);
  EXPECT_NEAR(classes["noun"] / all, 0.57, 0.02);
  EXPECT_GT(classes["adverb"], 1000);
  EXPECT_NEAR(held_out / all, 0.1, 0.01);
}

TEST_F(GcidePos, AHeadwordIsOnOneSideAndNoTextComesTwice) {
  std::map<std::string, std::set<bool>> sides;
  std::set<std::string> texts;
  for (const Example& example : examples()) {
    sides[example.entry.headword].insert(example.held_out);
    EXPECT_TRUE(texts.insert(example.entry.text).second) << "twice: " << example.entry.text;
  }
  for (const auto& [headword, found] : sides) EXPECT_EQ(found.size(), 1u) << headword;
}

TEST_F(GcidePos, NoTextHoldsMarkupOrALabel) {
  int64_t bad = 0;
  for (const Example& example : examples()) {
    const std::string& text = example.entry.text;
    for (const char* leak : {"[", "]", "{", "}", "\\", "\t", "\n", " n. ", " adv. ", " adj. ", " v. ", "vb. n.", "(Bot.)", "1913 Webster"}) {
      if (text.find(leak) == std::string::npos) continue;
      ++bad;
      ADD_FAILURE() << "\"" << leak << "\" in " << example.entry.headword << ": " << text;
    }
    ASSERT_LT(bad, 10);
  }
}

constexpr const char* kSmall =
    "Cat \\Cat\\, n.\n   A small beast that catches mice.\n\n"
    "Quick \\Quick\\, a.\n   Moving fast; full of life, as a hare.\n\n"
    "Leap \\Leap\\, v. i.\n   To spring up from the ground at once.\n\n"
    "Soon \\Soon\\, adv.\n   In a short time after now; before long.\n\n";

// Entries enough that a tenth of them is held out.
std::string small_dictionary() {
  std::string text = kSmall;
  for (int i = 0; i < 60; ++i) {
    const std::string name = "qx" + std::string(1, static_cast<char>('a' + i % 26)) + std::to_string(i);
    text += name + " \\" + name + "\\, " + (i % 2 == 0 ? "n." : "v. t.") + "\n   " + (i % 2 == 0 ? "A thing of number " : "To count up to ") +
            std::to_string(i) + ".\n\n";
  }
  return text;
}

TEST(MakeGcidePos, WritesTablesAndTheirTokens) {
  TemporaryFolder folder;
  const std::string dictionary = folder.write("dictionary", small_dictionary());
  LabelledTokenizeOptions options;
  options.output = folder.path("out");
  const LabelledTokenizeReport report = make_gcide_pos(dictionary, options);
  EXPECT_EQ(report.train.examples + report.heldout.examples, 64);
  EXPECT_GT(report.heldout.examples, 0);
  const LabelledDataset data = open_labelled_dataset(options.output);
  EXPECT_EQ(data.labels.names(), (std::vector<std::string>{"adjective", "adverb", "noun", "verb"}));
  EXPECT_NE(read_whole(folder.path("out/train.tsv")).find("\tTo spring up from the ground at once.\n"), std::string::npos);
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"dictionary", "out"}));
  expect_error(ExitCode::kUsage, "already holds something", [&] { make_gcide_pos(dictionary, options); });
}

// The same texts in both layouts give the same tokenizer, and the same examples but for their order.
TEST(MakeGcidePos, TheFoldersOfClassesHoldTheSameExamples) {
  TemporaryFolder folder;
  const std::string dictionary = folder.write("dictionary", small_dictionary());
  const FolderCounts counts = write_gcide_pos_folders(dictionary, folder.path("acl"));
  EXPECT_TRUE(std::filesystem::exists(folder.path("acl/train/noun/0.txt")));
  EXPECT_TRUE(std::filesystem::exists(folder.path("acl/test")));
  LabelledTokenizeOptions options;
  options.source.paths = {folder.path("acl")};
  options.output = folder.path("from-folders");
  const LabelledTokenizeReport report = tokenize_labelled(options);
  EXPECT_EQ(report.train.examples, counts.train);
  EXPECT_EQ(report.heldout.examples, counts.heldout);
  options.output = folder.path("from-tables");
  const LabelledTokenizeReport tables = make_gcide_pos(dictionary, options);
  EXPECT_EQ(report.tokenizer, tables.tokenizer);
  EXPECT_EQ(report.labels.digest(), tables.labels.digest());
  const auto all = [](const ExampleFile& file) {
    std::multiset<std::pair<int32_t, std::vector<int32_t>>> examples;
    for (int64_t i = 0; i < file.examples(); ++i) {
      std::vector<int32_t> tokens(static_cast<size_t>(file.length(i)));
      file.read(i, 0, tokens);
      examples.emplace(file.label(i), tokens);
    }
    return examples;
  };
  const LabelledDataset a = open_labelled_dataset(folder.path("from-folders")), b = open_labelled_dataset(folder.path("from-tables"));
  EXPECT_EQ(all(*a.train), all(*b.train));
  EXPECT_EQ(all(*a.heldout), all(*b.heldout));
}

TEST(MakeGcidePos, RefusesWhatIsNoDictionaryAndLeavesNothingBehind) {
  TemporaryFolder folder;
  LabelledTokenizeOptions options;
  options.output = folder.path("out");
  const std::string path = folder.write("prose", synthetic_text(1000, 1));
  expect_error(ExitCode::kData, "holds no entry with a part of speech", [&] { make_gcide_pos(path, options); });
  expect_error(ExitCode::kInputOutput, "cannot open corpus", [&] { make_gcide_pos(folder.path("absent"), options); });
  EXPECT_EQ(folder.names(), std::vector<std::string>{"prose"});
}

}  // namespace
}  // namespace switchyard
