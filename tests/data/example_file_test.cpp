#include "src/data/example_file.h"

#include "src/data/little_endian.h"
#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

constexpr size_t kHeaderBytes = 152;

std::string digest_bytes(const Digest& digest) { return std::string(reinterpret_cast<const char*>(digest.bytes.data()), 16); }

// An example file by hand, from the format in src/data/README.md, with checksums that fit whatever it claims.
struct Forgery {
  uint32_t version = 1, token_bytes = 2;
  int64_t vocabulary = 10, classes = 3, examples = 3, tokens = 5, source_bytes = 17;
  std::string split = "train";
  std::vector<uint16_t> data = {1, 2, 9, 3, 9};
  std::vector<int64_t> ends = {3, 3, 5};
  std::vector<int32_t> labels = {2, 0, 1};

  std::string bytes() const {
    const std::string token_section(reinterpret_cast<const char*>(data.data()), data.size() * 2);
    const std::string index_section =
        std::string(reinterpret_cast<const char*>(ends.data()), ends.size() * 8) + std::string(reinterpret_cast<const char*>(labels.data()), labels.size() * 4);
    std::string header = "SWYLABEL";
    append_little_endian(header, version);
    append_little_endian(header, token_bytes);
    for (const int64_t number : {vocabulary, classes, examples, tokens, source_bytes}) append_little_endian(header, number);
    header += digest_bytes(digest_of("a tokenizer")) + digest_bytes(digest_of("labels"));
    header += split + std::string(16 - split.size(), '\0');
    header += digest_bytes(digest_of(token_section)) + digest_bytes(digest_of(index_section));
    return header + digest_bytes(digest_of(header)) + token_section + index_section;
  }
};

void expect_refused(const Forgery& forgery, const std::string& words) {
  TemporaryFolder folder;
  const std::string path = folder.write("forged.examples", forgery.bytes());
  expect_error(ExitCode::kData, words, [&] { ExampleFile file(path); });
}

ExampleFileInfo info_for(int64_t vocabulary) {
  ExampleFileInfo info;
  info.split = "train";
  info.tokenizer = digest_of("a tokenizer");
  info.labels = digest_of("labels");
  info.vocabulary = vocabulary;
  info.classes = 3;
  return info;
}

std::vector<int32_t> tokens_of(const ExampleFile& file, int64_t example) {
  std::vector<int32_t> tokens(static_cast<size_t>(file.length(example)));
  file.read(example, 0, tokens);
  return tokens;
}

TEST(ExampleFile, GivesBackWhatWasWritten) {
  TemporaryFolder folder;
  for (const int64_t vocabulary : {10, 65536, 65537, 1000000}) {
    const int32_t last = static_cast<int32_t>(vocabulary - 1);
    ExampleFileWriter writer(folder.path("x.examples"), info_for(vocabulary));
    writer.add(2, std::vector<int32_t>{1, 2, last}, 11);
    writer.add(0, {}, 0);
    writer.add(1, std::vector<int32_t>{0, last}, 6);
    EXPECT_EQ(writer.finish().examples, 3);
    const ExampleFile file(folder.path("x.examples"));
    EXPECT_EQ(tokens_of(file, 0), (std::vector<int32_t>{1, 2, last}));
    EXPECT_EQ(tokens_of(file, 1), std::vector<int32_t>{});
    EXPECT_EQ(tokens_of(file, 2), (std::vector<int32_t>{0, last}));
    EXPECT_EQ(file.label(0), 2);
    EXPECT_EQ(file.label(1), 0);
    EXPECT_EQ(file.label(2), 1);
    EXPECT_EQ(file.info().tokens, 5);
    EXPECT_EQ(file.info().source_bytes, 17);
    std::vector<int32_t> middle(1);
    file.read(0, 1, middle);
    EXPECT_EQ(middle[0], 2);
    EXPECT_THROW(file.read(0, 3, middle), InternalError);
    EXPECT_THROW(file.read(3, 0, middle), InternalError);
    EXPECT_THROW(file.label(-1), InternalError);
  }
}

TEST(ExampleFile, HasTheDocumentedFormat) {
  TemporaryFolder folder;
  ExampleFileWriter writer(folder.path("x.examples"), info_for(10));
  writer.add(2, std::vector<int32_t>{1, 2, 9}, 11);
  writer.add(0, {}, 0);
  writer.add(1, std::vector<int32_t>{3, 9}, 6);
  writer.finish();
  EXPECT_EQ(read_whole(folder.path("x.examples")), Forgery().bytes());
  EXPECT_EQ(Forgery().bytes().size(), kHeaderBytes + 5 * 2 + 3 * 12);
}

TEST(ExampleFile, MayHoldNoExample) {
  TemporaryFolder folder;
  ExampleFileWriter(folder.path("x.examples"), info_for(10)).finish();
  EXPECT_EQ(ExampleFile(folder.path("x.examples")).examples(), 0);
}

TEST(ExampleFile, RefusesEveryTruncation) {
  TemporaryFolder folder;
  const std::string whole = Forgery().bytes();
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string path = folder.write("cut.examples", whole.substr(0, size));
    expect_error(ExitCode::kData, size < kHeaderBytes ? "its header alone 152" : "truncated", [&] { ExampleFile file(path); });
  }
  const std::string path = folder.write("long.examples", whole + '\0');
  expect_error(ExitCode::kData, "truncated or extended", [&] { ExampleFile file(path); });
}

TEST(ExampleFile, RefusesEveryFlippedBit) {
  TemporaryFolder folder;
  const std::string whole = Forgery().bytes();
  const ExampleFile good(folder.write("good.examples", whole));
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const std::string path = folder.write("flipped.examples", flipped);
    expect_error(ExitCode::kData, "is not a usable example file", [&] { ExampleFile file(path); });
  }
}

TEST(ExampleFile, RefusesForgedNumbersWithFittingChecksums) {
  Forgery forgery;
  forgery.version = 2;
  expect_refused(forgery, "it has version 2, and this program reads version 1");
  for (const int64_t vocabulary : {int64_t{0}, int64_t{-1}, int64_t{1} << 40, int64_t{70000}}) {
    forgery = {};
    forgery.vocabulary = vocabulary;
    expect_refused(forgery, "it claims a vocabulary of");
  }
  for (const int64_t classes : {int64_t{0}, int64_t{-1}, int64_t{10001}, INT64_MAX}) {
    forgery = {};
    forgery.classes = classes;
    expect_refused(forgery, "numbers or a name that no example file has");
  }
  for (const int64_t number : {int64_t{-1}, int64_t{6}, int64_t{1} << 61, INT64_MAX, INT64_MIN}) {
    forgery = {};
    forgery.tokens = number;
    expect_refused(forgery, "truncated or extended");
    forgery = {};
    forgery.examples = number;
    expect_refused(forgery, "truncated or extended");
  }
  forgery = {};
  forgery.split = "../train";
  expect_refused(forgery, "numbers or a name that no example file has");
}

TEST(ExampleFile, RefusesForgedContentWithFittingChecksums) {
  Forgery forgery;
  forgery.data[0] = 10;
  expect_refused(forgery, "1 of its tokens are outside the vocabulary of 10");
  for (const std::vector<int64_t>& ends : {std::vector<int64_t>{5, 3, 5}, {-1, 3, 5}, {3, 4, 4}, {3, 5, 6}, {1, 1, 1}}) {
    forgery = {};
    forgery.ends = ends;
    expect_refused(forgery, "its examples do not cover its tokens");
  }
  for (const int32_t label : {3, -1, INT32_MAX}) {
    forgery = {};
    forgery.labels[1] = label;
    expect_refused(forgery, "a label that is none of its 3 classes");
  }
}

TEST(ExampleFile, RefusesAnotherTokenizerAndOtherLabels) {
  TemporaryFolder folder;
  const ExampleFile file(folder.write("x.examples", Forgery().bytes()));
  file.demand(digest_of("a tokenizer"), digest_of("labels"));
  expect_error(ExitCode::kData, "was made with tokenizer " + digest_of("a tokenizer").hex(), [&] { file.demand(digest_of("another"), digest_of("labels")); });
  expect_error(ExitCode::kData, "was made with other labels", [&] { file.demand(digest_of("a tokenizer"), digest_of("other")); });
}

TEST(ExampleFile, RefusesWhatIsNoReadableFile) {
  TemporaryFolder folder;
  expect_error(ExitCode::kInputOutput, "cannot open example file", [&] { ExampleFile file(folder.path("absent")); });
  const std::string path = folder.write("text", std::string(500, 'x'));
  expect_error(ExitCode::kData, "it does not begin with SWYLABEL", [&] { ExampleFile file(path); });
}

TEST(ExampleFile, TellsWhenItIsChangedUnderTheReader) {
  TemporaryFolder folder;
  const std::string path = folder.write("x.examples", Forgery().bytes());
  const ExampleFile file(path);
  std::vector<int32_t> tokens(3);
  std::string bytes = read_whole(path);
  bytes[kHeaderBytes] = bytes[kHeaderBytes + 1] = '\xFF';
  folder.write("x.examples", bytes);
  expect_error(ExitCode::kData, "changed while it was in use", [&] { file.read(0, 0, tokens); });
  std::filesystem::resize_file(path, 154);
  expect_error(ExitCode::kData, "changed while it was in use", [&] { file.read(0, 0, tokens); });
}

TEST(ExampleFileWriter, LeavesNothingBehindWithoutFinishAndRefusesWhatDoesNotBelong) {
  TemporaryFolder folder;
  {
    ExampleFileWriter writer(folder.path("x.examples"), info_for(10));
    writer.add(0, std::vector<int32_t>{1}, 1);
    EXPECT_FALSE(std::filesystem::exists(folder.path("x.examples")));
    EXPECT_THROW(writer.add(3, {}, 0), InternalError);
    EXPECT_THROW(writer.add(-1, {}, 0), InternalError);
    EXPECT_THROW(writer.add(0, std::vector<int32_t>{10}, 1), InternalError);
    EXPECT_THROW(writer.add(0, std::vector<int32_t>{-1}, 1), InternalError);
  }
  EXPECT_EQ(folder.names(), std::vector<std::string>{});
}

}  // namespace
}  // namespace switchyard
