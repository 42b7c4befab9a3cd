#include "src/data/tokenize_labelled.h"

#include <fmt/format.h>

#include <filesystem>

#include "src/data/builtin.h"
#include "src/data/labelled_dataset.h"
#include "src/data/tokenize.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

std::string table(int64_t examples, uint64_t seed) {
  std::string lines;
  for (int64_t i = 0; i < examples; ++i) {
    std::string text = synthetic_text(12, seed + static_cast<uint64_t>(i));
    std::replace(text.begin(), text.end(), '\n', ' ');
    lines += fmt::format("{}\t{} {}\n", i % 3 == 0 ? "pos" : "neg", text, i);
  }
  return lines;
}

LabelledTokenizeOptions small_options(const TemporaryFolder& folder) {
  LabelledTokenizeOptions options;
  options.source.paths = {folder.write("texts.tsv.gz", gzip(table(500, 1)))};
  options.vocabulary = 100;
  options.output = folder.path("out");
  return options;
}

std::vector<int32_t> tokens_of(const ExampleFile& file, int64_t example) {
  std::vector<int32_t> tokens(static_cast<size_t>(file.length(example)));
  file.read(example, 0, tokens);
  return tokens;
}

TEST(TokenizeLabelled, SplitsExamplesAndKeepsThemWhole) {
  TemporaryFolder folder;
  const LabelledTokenizeOptions options = small_options(folder);
  const LabelledTokenizeReport report = tokenize_labelled(options);
  const LabelledDataset data = open_labelled_dataset(options.output);
  EXPECT_EQ(report.source.examples, 500);
  EXPECT_EQ(report.train.examples + report.heldout.examples, 500);
  EXPECT_NEAR(static_cast<double>(report.heldout.examples), 50, 27);  // four standard deviations
  EXPECT_EQ(data.labels.names(), (std::vector<std::string>{"neg", "pos"}));
  EXPECT_EQ(data.labels[0].train + data.labels[1].train, data.train->examples());
  EXPECT_EQ(data.labels[0].heldout + data.labels[1].heldout, data.heldout->examples());
  EXPECT_EQ(data.tokenizer->kind(), TokenizerKind::kWords);
  EXPECT_EQ(data.tokenizer->vocabulary(), 100);

  int64_t next[2] = {0, 0};
  read_labelled(options.source, [&](const LabelledExample& example) {
    const bool out = held_out(example.text, 10);
    const ExampleFile& file = out ? *data.heldout : *data.train;
    const int64_t i = next[out]++;
    ASSERT_EQ(tokens_of(file, i), data.tokenizer->encode(example.text));
    ASSERT_EQ(data.labels.name(file.label(i)), example.label);
  });
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"out", "texts.tsv.gz"}));
}

TEST(TokenizeLabelled, WorksWithEveryTokenizer) {
  TemporaryFolder folder;
  LabelledTokenizeOptions options = small_options(folder);
  options.kind = TokenizerKind::kBytes;
  EXPECT_EQ(tokenize_labelled(options).train.vocabulary, 257);
  const LabelledDataset bytes = open_labelled_dataset(options.output);
  EXPECT_EQ(bytes.train->info().tokens, bytes.train->info().source_bytes);
  options.kind = TokenizerKind::kSentencePiece;
  options.vocabulary = 512;
  options.output = folder.path("pieces");
  EXPECT_EQ(tokenize_labelled(options).train.vocabulary, 512);
  options.tokenizer = folder.path("out/tokenizer");
  options.output = folder.path("named");
  EXPECT_EQ(tokenize_labelled(options).tokenizer, bytes.tokenizer->digest());
}

TEST(TokenizeLabelled, GivesTheSameBytesForAnyNumberOfThreads) {
  TemporaryFolder folder;
  LabelledTokenizeOptions options = small_options(folder);
  tokenize_labelled(options);
  for (const int threads : {1, 3, 7}) {
    options.threads = threads;
    options.output = folder.path(fmt::format("out{}", threads));
    tokenize_labelled(options);
    for (const char* name : {"train.examples", "heldout.examples", "tokenizer", "labels"}) {
      EXPECT_EQ(read_whole(folder.path("out/") + name), read_whole(options.output + "/" + name)) << name << " with " << threads << " threads";
    }
  }
}

TEST(TokenizeLabelled, TheVocabularyComesFromTrainingExamplesOnly) {
  TemporaryFolder folder;
  LabelledTokenizeOptions options = small_options(folder);
  const Digest whole = tokenize_labelled(options).tokenizer;
  std::string train;
  read_labelled(options.source, [&](const LabelledExample& example) {
    if (!held_out(example.text, 10)) train += fmt::format("{}\t{}\n", example.label, example.text);
  });
  options.source.paths = {folder.write("train.tsv", train)};
  options.one_in = 0;
  options.output = folder.path("train-only");
  const LabelledTokenizeReport report = tokenize_labelled(options);
  EXPECT_EQ(report.tokenizer, whole);
  EXPECT_EQ(report.heldout.examples, 0);
}

TEST(TokenizeLabelled, TakesAHoldOutOfItsOwn) {
  TemporaryFolder folder;
  LabelledTokenizeOptions options = small_options(folder);
  options.heldout = {folder.write("test.csv", "text,label\n\"a, b\",pos\nzzz,neg\n")};
  const LabelledTokenizeReport report = tokenize_labelled(options);
  EXPECT_EQ(report.train.examples, 500) << "none of them is held out, too";
  EXPECT_EQ(report.heldout.examples, 2);
  EXPECT_EQ(report.source.examples, 502);
}

TEST(TokenizeLabelled, FindsTrainAndTestInAclImdbsLayout) {
  TemporaryFolder folder;
  for (const char* part : {"train", "test"}) {
    for (const char* name : {"pos", "neg"}) {
      std::filesystem::create_directories(folder.path(fmt::format("acl/{}/{}", part, name)));
      folder.write(fmt::format("acl/{}/{}/0_1.txt", part, name), fmt::format("some {} text", name));
    }
  }
  LabelledTokenizeOptions options;
  options.source.paths = {folder.path("acl")};
  options.output = folder.path("out");
  const LabelledTokenizeReport report = tokenize_labelled(options);
  EXPECT_EQ(report.train.examples, 2);
  EXPECT_EQ(report.heldout.examples, 2);
}

TEST(TokenizeLabelled, ALabelThatOnlyTheHoldOutHasIsNamedWithItsPlace) {
  TemporaryFolder folder;
  LabelledTokenizeOptions options = small_options(folder);
  options.heldout = {folder.write("test.tsv", "pos\tfine\nmixed\tso so\n")};
  expect_error(ExitCode::kData, "test.tsv, line 2: the label \"mixed\" of a held-out example has no example to train on", [&] { tokenize_labelled(options); });
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"test.tsv", "texts.tsv.gz"}));
}

TEST(TokenizeLabelled, TextsWithoutTokenAreKept) {
  TemporaryFolder folder;
  LabelledTokenizeOptions options;
  options.source.paths = {folder.write("texts.tsv", "pos\tgood film\npos\t\nneg\t...\n")};
  options.one_in = 0;
  options.output = folder.path("out");
  EXPECT_EQ(tokenize_labelled(options).texts_without_token, 2);
  const LabelledDataset data = open_labelled_dataset(options.output);
  EXPECT_EQ(data.train->examples(), 3);
  EXPECT_EQ(data.train->length(1), 0);
  EXPECT_EQ(data.train->length(2), 0);
}

TEST(TokenizeLabelled, ATextOfOneMegabyteIsStoredWhole) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 200000; ++i) text += "spam ";
  LabelledTokenizeOptions options;
  options.source.paths = {folder.write("texts.tsv", "pos\t" + text + "\nneg\tham\n")};
  options.one_in = 0;
  options.output = folder.path("out");
  tokenize_labelled(options);
  EXPECT_EQ(open_labelled_dataset(options.output).train->length(0), 200000);
}

TEST(TokenizeLabelled, WhatNoClassifierCanLearnIsRefusedAndLeavesNothingBehind) {
  TemporaryFolder folder;
  const auto refused = [&](ExitCode code, const char* words, const std::function<void(LabelledTokenizeOptions&)>& change) {
    LabelledTokenizeOptions options = small_options(folder);
    change(options);
    expect_error(code, words, [&] { tokenize_labelled(options); });
    EXPECT_FALSE(std::filesystem::exists(folder.path("out")));
    for (const std::string& name : folder.names()) EXPECT_EQ(name.find("partial"), std::string::npos) << name;
  };
  using Options = LabelledTokenizeOptions;
  refused(ExitCode::kUsage, "no output folder", [](Options& options) { options.output.clear(); });
  refused(ExitCode::kUsage, "threads is 0", [](Options& options) { options.threads = 0; });
  refused(ExitCode::kUsage, "one example in -1 cannot be held out", [](Options& options) { options.one_in = -1; });
  refused(ExitCode::kUsage, "vocabulary is 1 but must be from 3", [](Options& options) { options.vocabulary = 1; });
  refused(ExitCode::kUsage, "no labelled text was named", [](Options& options) { options.source.paths.clear(); });
  refused(ExitCode::kData, "all 500 examples are held out", [](Options& options) { options.one_in = 1; });
  refused(ExitCode::kData, "every example has the label \"pos\"",
          [&](Options& options) { options.source.paths = {folder.write("one.tsv", "pos\ta\npos\tb\n")}; });
  refused(ExitCode::kData, "bad.tsv, line 2: expected 2 columns", [&](Options& options) { options.source.paths = {folder.write("bad.tsv", "pos\ta\npos\n")}; });
  refused(ExitCode::kData, "holds no example", [&](Options& options) { options.heldout = {folder.write("empty.tsv", "")}; });
  refused(ExitCode::kData, "there are more than 10000 different labels; is the column of the labels the right one?", [&](Options& options) {
    std::string lines;
    for (int i = 0; i < 12000; ++i) lines += fmt::format("text {}\tpos\n", i);
    options.source.paths = {folder.write("swapped.tsv", lines)};
  });
}

TEST(OpenLabelledDataset, RefusesPartsThatDoNotBelongTogether) {
  TemporaryFolder folder;
  LabelledTokenizeOptions options = small_options(folder);
  tokenize_labelled(options);
  options.vocabulary = 50;
  options.output = folder.path("other");
  tokenize_labelled(options);
  const auto refused = [&](const char* name, const std::string& bytes, ExitCode code, const char* words) {
    const std::string path = folder.path("out/") + name, good = read_whole(path);
    folder.write(std::string("out/") + name, bytes);
    expect_error(code, words, [&] { open_labelled_dataset(folder.path("out")); });
    folder.write(std::string("out/") + name, good);
  };
  const std::string labels = read_whole(folder.path("out/labels"));
  const auto changed = [&](const std::string& from, const std::string& to) { return std::string(labels).replace(labels.find(from), from.size(), to); };
  refused("tokenizer", read_whole(folder.path("other/tokenizer")), ExitCode::kData, "was made with tokenizer");
  refused("heldout.examples", read_whole(folder.path("other/heldout.examples")), ExitCode::kData, "heldout.examples was made with tokenizer");
  refused("labels", changed("pos", "bos"), ExitCode::kData, "was made with other labels");
  refused("labels", changed("\"train\": ", "\"train\": 1"), ExitCode::kData, "and the list of labels says 1");
  refused("labels", labels.substr(0, labels.size() / 2), ExitCode::kData, "is not a usable list of labels");
  refused("train.examples", "", ExitCode::kData, "is not a usable example file");
  open_labelled_dataset(folder.path("out"));
  std::filesystem::remove(folder.path("out/labels"));
  expect_error(ExitCode::kInputOutput, "cannot open labels", [&] { open_labelled_dataset(folder.path("out")); });
}

// A bit changed anywhere in the list of labels changes a name or a count, or the JSON: each is found out, or changes nothing.
TEST(OpenLabelledDataset, NoFlippedBitInTheLabelsGoesUnseen) {
  TemporaryFolder folder;
  const LabelledTokenizeOptions options = small_options(folder);
  tokenize_labelled(options);
  const LabelledDataset good = open_labelled_dataset(options.output);
  const std::string whole = read_whole(folder.path("out/labels"));
  int64_t refused = 0;
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    folder.write("out/labels", flipped);
    try {
      EXPECT_EQ(open_labelled_dataset(options.output).labels.names(), good.labels.names()) << flipped;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kData) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, static_cast<int64_t>(whole.size()) * 4);
}

TEST(OpenLabelledDataset, TellsTextWithAndWithoutLabelsApart) {
  TemporaryFolder folder;
  const LabelledTokenizeOptions options = small_options(folder);
  tokenize_labelled(options);
  expect_error(ExitCode::kData, "holds labelled texts, which a classifier learns from", [&] { open_dataset(options.output); });
  TokenizeOptions plain;
  plain.corpus.paths = {folder.write("text", synthetic_text(2000, 1))};
  plain.kind = TokenizerKind::kBytes;
  plain.output = folder.path("plain");
  tokenize(plain);
  expect_error(ExitCode::kData, "holds text without labels", [&] { open_labelled_dataset(plain.output); });
  plain.tokenizer = folder.path("out/tokenizer");
  plain.output = folder.path("words");
  expect_error(ExitCode::kUsage, "words do not give a text back as it was", [&] { tokenize(plain); });
}

TEST(BuiltinLabelledDataset, HasFourClassesAndAHoldOut) {
  const LabelledDataset data = open_builtin_labelled_dataset();
  EXPECT_EQ(data.labels.names(), (std::vector<std::string>{"gain", "loss", "motion", "rest"}));
  EXPECT_EQ(data.train->examples() + data.heldout->examples(), 600);
  EXPECT_GT(data.heldout->examples(), 30);
  for (int32_t i = 0; i < 4; ++i) {
    EXPECT_GT(data.labels[i].train, 90) << data.labels.name(i);
    EXPECT_GT(data.labels[i].heldout, 3) << data.labels.name(i);
  }
  EXPECT_EQ(data.tokenizer->digest(), open_builtin_labelled_dataset().tokenizer->digest());
}

}  // namespace
}  // namespace switchyard
