#include "src/data/tokenize.h"

#include <fmt/format.h>

#include <fstream>

#include "src/data/batches.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

// A corpus of 500 documents, every tenth held out, as bytes: no training.
TokenizeOptions small_options(const TemporaryFolder& folder) {
  TokenizeOptions options;
  options.corpus.paths = {folder.write("corpus.gz", gzip(synthetic_text(20000, 1)))};
  options.corpus.documents = Documents::kGcide;
  options.kind = TokenizerKind::kBytes;
  options.one_in = 10;
  options.output = folder.path("out");
  return options;
}

std::string text_of(const Dataset& data, const TokenFile& file, std::string_view end) {
  std::string text;
  for (int64_t i = 0; i < file.documents(); ++i) {
    const TokenFile::Range range = file.document(i);
    std::vector<int32_t> tokens(static_cast<size_t>(range.end - range.first));
    file.read(range.first, tokens);
    EXPECT_EQ(tokens.back(), data.tokenizer->end_of_document());
    text += data.tokenizer->decode(tokens);
    text += end;
  }
  return text;
}

TEST(Tokenize, SplitsDocumentsAndKeepsTheirText) {
  TemporaryFolder folder;
  const TokenizeOptions options = small_options(folder);
  const TokenizeReport report = tokenize(options);
  const Dataset data = open_dataset(options.output);
  std::string train, heldout;
  read_documents(options.corpus, [&](std::string_view document) { (held_out(document, 10) ? heldout : train).append(document).append("\n\n"); });
  EXPECT_EQ(text_of(data, *data.train, "\n\n"), train);
  EXPECT_EQ(text_of(data, *data.heldout, "\n\n"), heldout);
  EXPECT_EQ(read_whole(folder.path("out/heldout.txt")), heldout);

  EXPECT_EQ(report.corpus.documents, 500);
  EXPECT_EQ(report.train.documents + report.heldout.documents, 500);
  EXPECT_NEAR(static_cast<double>(report.heldout.documents), 50, 27);  // four standard deviations
  EXPECT_EQ(data.train->info().split, "train");
  EXPECT_EQ(data.heldout->info().split, "heldout");
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"corpus.gz", "out"}));
}

// Bits per byte: the counted targets are the tokens of the hold-out, the divisor is the size of its text.
TEST(Tokenize, AccountsForEveryByteAndEveryTokenOfTheHoldOut) {
  TemporaryFolder folder;
  const TokenizeOptions options = small_options(folder);
  const TokenizeReport report = tokenize(options);
  const Dataset data = open_dataset(options.output);
  EXPECT_EQ(static_cast<uint64_t>(data.heldout->info().source_bytes), std::filesystem::file_size(folder.path("out/heldout.txt")));
  // One token for each byte of a document and one for the two bytes of its separator.
  EXPECT_EQ(report.heldout.tokens, report.heldout.source_bytes - report.heldout.documents);

  BatchOptions batch_options;
  batch_options.lanes = 2;
  batch_options.sequences = 3;
  batch_options.sequence_length = 32;
  EvaluationBatches batches(*data.heldout, batch_options);
  int64_t targets = 0;
  for (int64_t round = 0; round < batches.rounds(); ++round) targets += batches.counts(round).targets;
  EXPECT_EQ(targets, report.heldout.tokens);
}

TEST(Tokenize, GivesTheSameBytesForAnyNumberOfThreads) {
  TemporaryFolder folder;
  TokenizeOptions options = small_options(folder);
  options.kind = TokenizerKind::kSentencePiece;
  options.vocabulary = 512;
  tokenize(options);
  for (const int threads : {1, 3, 7}) {
    options.threads = threads;
    options.output = folder.path(fmt::format("out{}", threads));
    tokenize(options);
    for (const char* name : {"train.tokens", "heldout.tokens", "tokenizer", "heldout.txt"}) {
      EXPECT_EQ(read_whole(folder.path("out/") + name), read_whole(options.output + "/" + name)) << name << " with " << threads << " threads";
    }
  }
}

// What the tokenizer learns must not depend on documents that are held out.
TEST(Tokenize, TrainsTheTokenizerOnTrainingDocumentsOnly) {
  TemporaryFolder folder;
  TokenizeOptions options = small_options(folder);
  options.kind = TokenizerKind::kSentencePiece;
  options.vocabulary = 512;
  const Digest whole = tokenize(options).tokenizer;
  std::string train;
  read_documents(options.corpus, [&](std::string_view document) {
    if (!held_out(document, 10)) train.append(document).append("\n\n");
  });
  options.corpus.paths = {folder.write("train.txt", train)};
  options.output = folder.path("train-only");
  EXPECT_EQ(tokenize(options).tokenizer, whole);
}

TEST(Tokenize, CanUseATokenizerThatExists) {
  TemporaryFolder folder;
  TokenizeOptions options = small_options(folder);
  save_tokenizer(*make_bytes_tokenizer(), folder.path("bytes"));
  options.kind = TokenizerKind::kSentencePiece;
  options.tokenizer = folder.path("bytes");
  EXPECT_EQ(tokenize(options).train.vocabulary, 257);
}

TEST(Tokenize, FillsAnEmptyFolderAndRefusesAFullOne) {
  TemporaryFolder folder;
  TokenizeOptions options = small_options(folder);
  options.output = folder.path("deep/er/");
  std::filesystem::create_directories(options.output);
  tokenize(options);
  EXPECT_TRUE(std::filesystem::exists(folder.path("deep/er/tokenizer")));
  expect_error(ExitCode::kUsage, "already holds something", [&] { tokenize(options); });
  options.output = folder.path("corpus.gz");
  expect_error(ExitCode::kUsage, "already holds something", [&] { tokenize(options); });
}

TEST(Tokenize, LeavesNothingBehindWhenItFails) {
  TemporaryFolder folder;
  TokenizeOptions options = small_options(folder);
  options.corpus.paths = {folder.write("bad", synthetic_text(20000, 1) + "\x92")};
  expect_error(ExitCode::kData, "is not UTF-8 at byte", [&] { tokenize(options); });
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"bad", "corpus.gz"}));
  options.corpus.paths = {folder.path("absent")};
  expect_error(ExitCode::kInputOutput, "No such file", [&] { tokenize(options); });
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"bad", "corpus.gz"}));
  options.output = folder.path("bad/out");
  expect_error(ExitCode::kInputOutput, "cannot create folder", [&] { tokenize(options); });
}

TEST(Tokenize, RefusesImpossibleOptions) {
  TemporaryFolder folder;
  const auto expect = [&](ExitCode code, const char* words, const std::function<void(TokenizeOptions&)>& change) {
    TokenizeOptions options = small_options(folder);
    change(options);
    expect_error(code, words, [&] { tokenize(options); });
  };
  expect(ExitCode::kUsage, "no output folder", [](TokenizeOptions& options) { options.output.clear(); });
  expect(ExitCode::kUsage, "threads is 0", [](TokenizeOptions& options) { options.threads = 0; });
  expect(ExitCode::kUsage, "one document in -1", [](TokenizeOptions& options) { options.one_in = -1; });
  expect(ExitCode::kUsage, "no corpus was named", [](TokenizeOptions& options) { options.corpus.paths.clear(); });
  expect(ExitCode::kData, "all 500 documents are held out", [](TokenizeOptions& options) { options.one_in = 1; });
}

TEST(OpenDataset, RefusesPartsThatDoNotBelongTogether) {
  TemporaryFolder folder;
  TokenizeOptions options = small_options(folder);
  tokenize(options);
  std::filesystem::remove(folder.path("out/train.tokens"));
  expect_error(ExitCode::kInputOutput, "cannot open token file", [&] { open_dataset(options.output); });
  std::filesystem::copy_file(write_tokens(folder, "other.tokens", {{1, 2}}, 10), folder.path("out/train.tokens"));
  expect_error(ExitCode::kData, "was made with tokenizer", [&] { open_dataset(options.output); });
}

}  // namespace
}  // namespace switchyard
