#include "src/data/token_file.h"

#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "src/data/little_endian.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

constexpr size_t kHeaderBytes = 136;

std::string digest_bytes(const Digest& digest) { return std::string(reinterpret_cast<const char*>(digest.bytes.data()), 16); }

// A token file by hand, from the format in src/data/README.md, with checksums that fit whatever it claims.
struct Forgery {
  uint32_t version = 1, token_bytes = 2;
  int64_t vocabulary = 10, documents = 2, tokens = 5, source_bytes = 17, end_of_document = 9;
  std::string split = "train";
  std::vector<uint16_t> data = {1, 2, 9, 3, 9};
  std::vector<int64_t> index = {3, 5};

  std::string bytes() const {
    const std::string token_section(reinterpret_cast<const char*>(data.data()), data.size() * 2);
    const std::string index_section(reinterpret_cast<const char*>(index.data()), index.size() * 8);
    std::string header = "SWYTOKEN";
    append_little_endian(header, version);
    append_little_endian(header, token_bytes);
    for (const int64_t number : {vocabulary, documents, tokens, source_bytes, end_of_document}) append_little_endian(header, number);
    header += digest_bytes(digest_of("a tokenizer"));
    header += split + std::string(16 - split.size(), '\0');
    header += digest_bytes(digest_of(token_section)) + digest_bytes(digest_of(index_section));
    return header + digest_bytes(digest_of(header)) + token_section + index_section;
  }
};

void expect_refused(const Forgery& forgery, const std::string& words) {
  TemporaryFolder folder;
  const std::string path = folder.write("forged.tokens", forgery.bytes());
  expect_error(ExitCode::kData, words, [&] { TokenFile file(path); });
}

TEST(TokenFile, GivesBackWhatWasWritten) {
  TemporaryFolder folder;
  for (const int64_t vocabulary : {10, 65536, 65537, 1000000}) {
    const int32_t large = static_cast<int32_t>(vocabulary - 2);
    const TokenFile file(write_tokens(folder, "x.tokens", {{1, 2, large}, {}, {large, 0}}, vocabulary));
    const int32_t end = static_cast<int32_t>(vocabulary - 1);
    EXPECT_EQ(all_tokens(file), (std::vector<int32_t>{1, 2, large, end, end, large, 0, end}));
    EXPECT_EQ(file.documents(), 3);
    EXPECT_EQ(file.document(0).end, 4);
    EXPECT_EQ(file.document(1).first, 4);
    EXPECT_EQ(file.document(1).end, 5);
    EXPECT_EQ(file.document(2).end, 8);
    EXPECT_EQ(file.info().source_bytes, 11 + 2 + 8);
    EXPECT_EQ(file.info().split, "train");
    EXPECT_EQ(file.info().vocabulary, vocabulary);
  }
}

TEST(TokenFile, ReadsAnyRange) {
  TemporaryFolder folder;
  const TokenFile file(write_counting_tokens(folder, 1000, 998));
  const std::vector<int32_t> all = all_tokens(file);
  for (int64_t first = 0; first <= 1000; first += 37) {
    for (size_t length = 0; first + static_cast<int64_t>(length) <= 1000; length += 101) {
      std::vector<int32_t> part(length);
      file.read(first, part);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first)) << first << " + " << length;
    }
  }
  std::vector<int32_t> beyond(2);
  EXPECT_THROW(file.read(999, beyond), InternalError);
}

TEST(TokenFile, HasTheDocumentedFormat) {
  TemporaryFolder folder;
  const std::string path = write_tokens(folder, "x.tokens", {{1, 2}, {3}}, 10);
  Forgery expected;
  expected.source_bytes = 8 + 5;
  EXPECT_EQ(read_whole(path), expected.bytes());
  EXPECT_EQ(read_whole(path).size(), kHeaderBytes + 10 + 16);
}

TEST(TokenFile, MayBeLargerThanABlock) {
  TemporaryFolder folder;
  std::vector<std::vector<int32_t>> documents(70000, {1, 2, 3, 4, 5, 6, 7});
  const TokenFile file(write_tokens(folder, "x.tokens", documents, 70000));
  EXPECT_EQ(file.tokens(), 560000);
  EXPECT_EQ(file.document(69999).first, 559992);
}

TEST(TokenFile, RefusesEveryTruncation) {
  TemporaryFolder folder;
  const std::string whole = Forgery().bytes();
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string path = folder.write("cut.tokens", whole.substr(0, size));
    expect_error(ExitCode::kData, size < kHeaderBytes ? "its header alone 136" : "truncated", [&] { TokenFile file(path); });
  }
  const std::string path = folder.write("long.tokens", whole + '\0');
  expect_error(ExitCode::kData, "truncated or extended", [&] { TokenFile file(path); });
}

TEST(TokenFile, RefusesEveryFlippedBit) {
  TemporaryFolder folder;
  const std::string whole = Forgery().bytes();
  const TokenFile good(folder.write("good.tokens", whole));
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const std::string path = folder.write("flipped.tokens", flipped);
    expect_error(ExitCode::kData, "is not a usable token file", [&] { TokenFile file(path); });
  }
}

TEST(TokenFile, RefusesForgedNumbersWithFittingChecksums) {
  Forgery forgery;
  forgery.version = 2;
  expect_refused(forgery, "it has version 2, and this program reads version 1");
  for (const int64_t vocabulary : {int64_t{0}, int64_t{-1}, int64_t{1} << 40, int64_t{70000}}) {
    forgery = {};
    forgery.vocabulary = vocabulary;
    expect_refused(forgery, "it claims a vocabulary of");
  }
  for (const int64_t number : {int64_t{-1}, int64_t{6}, int64_t{1} << 61, INT64_MAX, INT64_MIN}) {
    forgery = {};
    forgery.tokens = number;
    expect_refused(forgery, "truncated or extended");
    forgery = {};
    forgery.documents = number;
    expect_refused(forgery, "truncated or extended");
  }
  for (const int64_t end : {int64_t{-1}, int64_t{10}, (int64_t{1} << 32) + 9}) {
    forgery = {};
    forgery.end_of_document = end;
    expect_refused(forgery, "numbers or a name that no token file has");
  }
  forgery = {};
  forgery.split = "../train";
  expect_refused(forgery, "numbers or a name that no token file has");
  forgery = {};
  forgery.source_bytes = -5;
  expect_refused(forgery, "numbers or a name that no token file has");
}

TEST(TokenFile, RefusesForgedContentWithFittingChecksums) {
  Forgery forgery;
  forgery.data[0] = 10;
  expect_refused(forgery, "1 of its tokens are outside the vocabulary of 10");
  forgery = {};
  forgery.data[2] = 1;
  expect_refused(forgery, "2 documents are claimed, and 1 tokens end one");
  for (const std::vector<int64_t>& index : {std::vector<int64_t>{5, 5}, {5, 3}, {-1, 5}, {3, 6}, {0, 5}}) {
    forgery = {};
    forgery.index = index;
    expect_refused(forgery, "its documents do not cover its tokens");
  }
}

TEST(TokenFile, RefusesAnotherTokenizer) {
  TemporaryFolder folder;
  const TokenFile file(write_tokens(folder, "x.tokens", {{1}}, 10));
  file.demand_tokenizer(digest_of("a tokenizer"));
  expect_error(ExitCode::kData, "was made with tokenizer " + digest_of("a tokenizer").hex(), [&] { file.demand_tokenizer(digest_of("another")); });
}

TEST(TokenFile, RefusesWhatIsNoReadableFile) {
  TemporaryFolder folder;
  expect_error(ExitCode::kInputOutput, "cannot open token file", [&] { open_token_file(folder.path("absent")); });
  expect_error(ExitCode::kInputOutput, "not a regular file", [&] { open_token_file(folder.path("")); });
  const std::string path = folder.write("text", std::string(500, 'x'));
  expect_error(ExitCode::kData, "it does not begin with SWYTOKEN", [&] { open_token_file(path); });
}

TEST(TokenFile, TellsWhenItIsChangedUnderTheReader) {
  TemporaryFolder folder;
  const std::string path = write_counting_tokens(folder, 1000, 998);
  const TokenFile file(path);
  std::vector<int32_t> tokens(10);
  std::string bytes = read_whole(path);
  bytes[kHeaderBytes] = bytes[kHeaderBytes + 1] = '\xFF';
  folder.write("counting.tokens", bytes);
  expect_error(ExitCode::kData, "changed while it was in use", [&] { file.read(0, tokens); });
  std::filesystem::resize_file(path, 200);
  expect_error(ExitCode::kData, "changed while it was in use", [&] { file.read(900, tokens); });
}

TEST(TokenFileWriter, LeavesNothingBehindWithoutFinish) {
  TemporaryFolder folder;
  TokenFileInfo info;
  info.split = "train";
  info.vocabulary = 10;
  {
    TokenFileWriter writer(folder.path("x.tokens"), info);
    writer.add_document(std::vector<int32_t>{1, 2}, 3);
    EXPECT_FALSE(std::filesystem::exists(folder.path("x.tokens")));
  }
  EXPECT_EQ(folder.names(), std::vector<std::string>{});
  expect_error(ExitCode::kInputOutput, "cannot create", [&] { TokenFileWriter writer(folder.path("no/folder"), info); });
}

// A full disk, as a limit on the size of files.
TEST(TokenFileWriter, TellsWhenTheDiskIsFullAndLeavesNothingBehind) {
  TemporaryFolder folder;
  TokenFileInfo info;
  info.split = "train";
  info.vocabulary = 10;
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 100000;
  setrlimit(RLIMIT_FSIZE, &small);
  expect_error(ExitCode::kInputOutput, "cannot write " + folder.path("x.tokens"), [&] {
    TokenFileWriter writer(folder.path("x.tokens"), info);
    writer.add_document(std::vector<int32_t>(100000, 1), 1);
    writer.finish();
  });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(folder.names(), std::vector<std::string>{});
}

TEST(TokenFileWriter, RefusesTokensThatDoNotBelongIntoADocument) {
  TemporaryFolder folder;
  TokenFileInfo info;
  info.split = "train";
  info.vocabulary = 10;
  info.end_of_document = 9;
  TokenFileWriter writer(folder.path("x.tokens"), info);
  EXPECT_THROW(writer.add_document(std::vector<int32_t>{9}, 1), InternalError);
  EXPECT_THROW(writer.add_document(std::vector<int32_t>{10}, 1), InternalError);
  EXPECT_THROW(writer.add_document(std::vector<int32_t>{-1}, 1), InternalError);
}

}  // namespace
}  // namespace switchyard
