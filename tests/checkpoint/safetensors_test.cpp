// Every class of error of the reference reader, and what this reader forbids beyond it.
#include "src/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <random>

#include "kernels/memory.h"
#include "tests/checkpoint/checkpoint_helper.h"

namespace switchyard {
namespace {

using Fault = SafetensorsFault;

std::string little_endian(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

// A file with this header and so many bytes of data.
std::string file_of(const std::string& header, size_t data_bytes) { return little_endian(header.size()) + header + std::string(data_bytes, 'x'); }

std::vector<SafetensorsEntry> parse(const std::string& file) {
  const int64_t size = static_cast<int64_t>(file.size());
  const int64_t header = safetensors_header_bytes(std::string_view(file).substr(0, 8), size, "file");
  return parse_safetensors_header(std::string_view(file).substr(8, static_cast<size_t>(header)), size - 8 - header, "file");
}

void expect_fault(const std::string& file, Fault fault, const char* what) {
  try {
    parse(file);
    FAIL() << "accepted: " << what;
  } catch (const SafetensorsError& error) {
    EXPECT_EQ(static_cast<int>(error.fault()), static_cast<int>(fault)) << what << ": " << error.what();
    EXPECT_EQ(error.code(), ExitCode::kData);
  }
}

TEST(Safetensors, ReadsWhatTheFormatAllows) {
  EXPECT_TRUE(parse(file_of("{}", 0)).empty());
  EXPECT_TRUE(parse(file_of("{}      ", 0)).empty()) << "padding with spaces";
  EXPECT_TRUE(parse(file_of(R"({"__metadata__":{"format":"pt"}})", 0)).empty());
  const auto entries = parse(file_of(R"({"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},"a":{"shape":[],"data_offsets":[0,8],"dtype":"F64"},)"
                                     R"("empty":{"dtype":"F32","shape":[0,7],"data_offsets":[8,8]}})",
                                     20));
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].name, "a") << "in the order of their bytes";
  EXPECT_EQ(entries[0].shape, Shape{});
  EXPECT_EQ(entries[1].name, "empty");
  EXPECT_EQ(entries[2].dtype, Dtype::kBF16);
  EXPECT_EQ(entries[2].shape, (Shape{2, 3}));
  EXPECT_EQ(entries[2].begin, 8);
}

TEST(Safetensors, HeaderLengthsAreCheckedBeforeTheyAreUsed) {
  expect_fault("", Fault::kHeaderTooSmall, "an empty file");
  expect_fault("1234567", Fault::kHeaderTooSmall, "seven bytes");
  expect_fault(little_endian(~uint64_t{0}) + "{}", Fault::kHeaderTooLarge, "all ones");
  expect_fault(little_endian((uint64_t{16} << 20) + 1) + "{}", Fault::kHeaderTooLarge, "one more than allowed");
  expect_fault(little_endian(3) + "{}", Fault::kInvalidHeaderLength, "one more than the file has");
}

TEST(Safetensors, TheHeaderIsOneObjectInUtf8) {
  expect_fault(file_of("", 0), Fault::kInvalidHeaderStart, "no header at all");
  expect_fault(file_of(" {}", 0), Fault::kInvalidHeaderStart, "a space first");
  expect_fault(file_of("{}\n", 0), Fault::kInvalidHeaderStart, "padded with a line end");
  expect_fault(file_of(std::string("{}\0", 3), 0), Fault::kInvalidHeaderStart, "padded with a zero");
  expect_fault(file_of("[]", 0), Fault::kInvalidHeaderStart, "a list");
  expect_fault(file_of("{\"\xff\":{}}", 0), Fault::kInvalidHeader, "not UTF-8");
  expect_fault(file_of("{\"a\":}", 0), Fault::kInvalidJson, "no value");
  expect_fault(file_of("{}{}", 0), Fault::kInvalidJson, "two objects");
  expect_fault(file_of("{\"a\":{}", 0), Fault::kInvalidJson, "an object that does not end");
}

TEST(Safetensors, ATensorHasExactlyItsThreeMembers) {
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[1]}})", 4), Fault::kInvalidJson, "no offsets");
  expect_fault(file_of(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "no shape");
  expect_fault(file_of(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "no dtype");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4), Fault::kInvalidJson, "one more");
  expect_fault(file_of(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4), Fault::kDuplicateName, "one twice");
  expect_fault(file_of(R"({"a":{"dtype":4,"shape":[1],"data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "a number for dtype");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "a number for shape");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":"1","data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "text for shape");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "text in the shape");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "a negative extent");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "a fraction");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[null],"data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "null");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "true");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4), Fault::kInvalidJson, "one offset");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", 4), Fault::kInvalidJson, "three offsets");
  expect_fault(file_of(R"({"a":1})", 4), Fault::kInvalidJson, "a number for a tensor");
  expect_fault(file_of(R"({"__metadata__":{"a":1}})", 0), Fault::kInvalidJson, "a number in the metadata");
  expect_fault(file_of(R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", 8), Fault::kUnknownDtype, "a dtype that this program lacks");
}

TEST(Safetensors, TensorsFillTheDataWithoutHoleOrOverlap) {
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8), Fault::kInvalidOffset, "a hole at the start");
  const char* hole = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})";
  expect_fault(file_of(hole, 12), Fault::kInvalidOffset, "a hole between");
  const char* overlap = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})";
  expect_fault(file_of(overlap, 12), Fault::kInvalidOffset, "an overlap");
  const char* same = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  expect_fault(file_of(same, 4), Fault::kInvalidOffset, "the same bytes twice");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4), Fault::kInvalidOffset, "an end before its beginning");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4), Fault::kInvalidTensor, "too few bytes for the shape");
  expect_fault(file_of(R"({"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,4]}})", 4), Fault::kInvalidTensor, "too many bytes for the dtype");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3), Fault::kIncompleteBuffer, "a truncated file");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5), Fault::kIncompleteBuffer, "something appended");
  expect_fault(file_of("{}", 1), Fault::kIncompleteBuffer, "data without a tensor");
}

TEST(Safetensors, SizesThatDoNotFitAreRefused) {
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4), Fault::kOverflow, "2^64 elements");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[2305843009213693952],"data_offsets":[0,4]}})", 4), Fault::kOverflow, "2^63 bytes");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4), Fault::kOverflow, "2^64 - 1");
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[99999999999999999999999],"data_offsets":[0,4]}})", 4), Fault::kInvalidJson, "beyond any integer");
}

TEST(Safetensors, CountsAndLengthsAreBounded) {
  expect_fault(file_of(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]}})", 4), Fault::kRankTooHigh, "five extents");
  const std::string empty = R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(parse(file_of("{\"" + std::string(256, 'n') + empty + "}", 0)).size(), 1u);
  expect_fault(file_of("{\"" + std::string(257, 'n') + empty + "}", 0), Fault::kNameTooLong, "a name of 257 bytes");
  expect_fault(file_of("{\"a" + empty + ",\"a" + empty + "}", 0), Fault::kDuplicateName, "empty tensors of one name, which no offset gives away");
  std::string many = "{";
  for (int i = 0; i <= 65536; ++i) many += (i == 0 ? "\"" : ",\"") + std::to_string(i) + empty;
  expect_fault(file_of(many + "}", 0), Fault::kTooManyTensors, "65,537 tensors");
}

TEST(Safetensors, NestingDoesNotUseTheStack) {
  expect_fault(file_of("{\"a\":" + std::string(1 << 20, '[') + "}", 0), Fault::kInvalidJson, "a million lists");
  expect_fault(file_of(R"({"a":{"shape":)" + std::string(1 << 20, '[') + "}}", 0), Fault::kNestingTooDeep, "a million lists in a shape");
  std::string objects = R"({"a":{"shape":)";
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  expect_fault(file_of(objects + "1" + std::string(100002, '}'), 0), Fault::kNestingTooDeep, "a hundred thousand objects");
}

TEST(Safetensors, TheWriterMakesWhatTheReaderAccepts) {
  const std::vector<SafetensorsEntry> entries{
      {"x \"quoted\" \\ \xc3\xa9", Dtype::kF64, {2, 3}, 0, 48}, {"s", Dtype::kBF16, {}, 48, 50}, {"v", Dtype::kI32, {1, 1, 1, 2}, 50, 58}};
  const std::string start = render_safetensors_header(entries);
  EXPECT_EQ(start.size() % 64, 0u) << "data are aligned";
  EXPECT_EQ(start[8], '{');
  const auto found = parse(start + std::string(58, '\0'));
  ASSERT_EQ(found.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(found[i].name, entries[i].name);
    EXPECT_EQ(found[i].dtype, entries[i].dtype);
    EXPECT_EQ(found[i].shape, entries[i].shape);
    EXPECT_EQ(found[i].begin, entries[i].begin);
    EXPECT_EQ(found[i].end, entries[i].end);
  }
}

TEST(Safetensors, AFileIsReadTensorByTensor) {
  Scratch scratch;
  std::string data(12, '\0');
  data[3] = 0x3f, data[2] = '\x80', data[8] = 5;
  write_file(scratch.path("f.safetensors"), render_safetensors_header({{"one", Dtype::kF32, {2}, 0, 8}, {"five", Dtype::kI32, {}, 8, 12}}) + data);
  const SafetensorsFile file(scratch.path("f.safetensors"));
  float one[2];
  file.read("one", Tensor(one, Dtype::kF32, {2}));
  EXPECT_EQ(one[0], 1.0f);
  int32_t five = 0;
  file.read("five", Tensor(&five, Dtype::kI32, {}));
  EXPECT_EQ(five, 5);
  EXPECT_THROW(file.read("six", Tensor(&five, Dtype::kI32, {})), Error);
  EXPECT_THROW(file.read("five", Tensor(&five, Dtype::kI32, {1})), Error) << "another shape";
  EXPECT_THROW(SafetensorsFile(scratch.path("missing")), Error);
}

// Whatever the bytes are: an error of a known class, or entries that fill the data exactly.
TEST(Safetensors, MutatedFilesAreRefusedOrConsistent) {
  const std::string header =
      R"({"__metadata__":{"k":"v"},"aa":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})";
  const std::string good = file_of(header, 32);
  std::mt19937 random(1);
  const auto below = [&](size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random); };
  const std::string letters = "{}[]\":,0123456789-eE.\\ \xff\n" + std::string(1, '\0') + "tnf";
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string file = good;
    for (size_t edits = 1 + below(3); edits > 0; --edits) {
      const size_t at = below(file.size()), kind = below(5);
      if (kind == 0) file[at] = static_cast<char>(file[at] ^ (1 << below(8)));
      if (kind == 1) file[at] = letters[below(letters.size())];
      if (kind == 2) file.erase(at, 1 + below(8));
      if (kind == 3) file.insert(at, 1, letters[below(letters.size())]);
      if (kind == 4) file.insert(at, file.substr(below(file.size()), 1 + below(40)));
      if (file.size() < 9) file = good;
    }
    if (below(2) == 0) file.replace(0, 8, little_endian(std::min(file.size() - 8, header.size() + below(3) - 1)));
    try {
      int64_t end = 0;
      for (const SafetensorsEntry& entry : parse(file)) {
        ASSERT_EQ(entry.begin, end);
        ASSERT_EQ(entry.end - entry.begin, entry.shape.elements() * size_of(entry.dtype));
        end = entry.end;
      }
      const auto length = static_cast<uint64_t>(safetensors_header_bytes(file.substr(0, 8), static_cast<int64_t>(file.size()), "file"));
      ASSERT_EQ(static_cast<uint64_t>(end), file.size() - 8 - length);
      ++accepted;
    } catch (const SafetensorsError&) {
    }
  }
  EXPECT_GT(accepted, 100) << "mutations of data bytes and of names leave a sound file";
}

}  // namespace
}  // namespace switchyard
