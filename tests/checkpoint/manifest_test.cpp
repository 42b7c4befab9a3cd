#include "src/checkpoint/manifest.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "src/checkpoint/checksum.h"
#include "src/checkpoint/files.h"
#include "tests/checkpoint/checkpoint_helper.h"

namespace switchyard {
namespace {

Manifest example() {
  Manifest manifest;
  manifest.info = test_info(7);
  manifest.state_digest = std::string(64, 'a');
  manifest.files = {{"shard-00000-of-00001.safetensors", 100, std::string(32, 'b')}};
  manifest.tensors = {{"a", Dtype::kF32, {2, 3}, 0, 0, 24, std::string(32, 'c')}, {"b", Dtype::kI32, {}, 0, 24, 28, std::string(32, 'd')}};
  return manifest;
}

std::string with_checksum(const std::string& body) { return body + ",\n\"checksum\": \"" + to_hex(checksum(body)) + "\"\n}\n"; }

TEST(Manifest, IsJsonAndComesBackAsItWas) {
  const std::string text = render_manifest(example());
  EXPECT_TRUE(nlohmann::json::parse(text).is_object());
  const Manifest found = parse_manifest(text, "manifest");
  EXPECT_EQ(found.info, example().info);
  EXPECT_EQ(found.state_digest, example().state_digest);
  ASSERT_EQ(found.tensors.size(), 2u);
  EXPECT_EQ(found.tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(found.tensors[1].shape, Shape{});
  EXPECT_EQ(found.tensors[1].end, 28);
  EXPECT_EQ(render_manifest(found), text);
}

TEST(Manifest, TextThatIsNotUtf8IsRefusedWhenItIsWritten) {
  Manifest manifest = example();
  manifest.info.config = "\xff";
  try {
    render_manifest(manifest);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
  }
}

TEST(Manifest, EveryPrefixIsRefused) {
  const std::string text = render_manifest(example());
  for (size_t size = 0; size < text.size(); ++size) EXPECT_THROW(parse_manifest(text.substr(0, size), "manifest"), Error) << size;
}

// With a checksum that fits, so that the parser behind it is reached.
TEST(Manifest, MutationsAreRefusedOrStayWithinBounds) {
  const std::string whole = render_manifest(example());
  const std::string body = whole.substr(0, whole.rfind(",\n\"checksum\""));
  const std::string letters = "{}[]\":,0123456789-eE.\\ \xff\n" + std::string(1, '\0');
  std::mt19937 random(1);
  const auto below = [&](size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random); };
  int accepted = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string text = body;
    for (size_t edits = 1 + below(2); edits > 0; --edits) {
      const size_t at = below(text.size()), kind = below(4);
      if (kind == 0) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
      if (kind == 1) text[at] = letters[below(letters.size())];
      if (kind == 2) text.erase(at, 1 + below(8));
      if (kind == 3) text.insert(at, text.substr(below(text.size()), 1 + below(40)));
    }
    try {
      const Manifest found = parse_manifest(with_checksum(text), "manifest");
      for (const ManifestFile& file : found.files) ASSERT_TRUE(is_safe_name(file.name)) << file.name;
      for (const ManifestTensor& tensor : found.tensors) {
        ASSERT_LT(tensor.file, found.files.size());
        ASSERT_EQ(tensor.end - tensor.begin, tensor.shape.elements() * size_of(tensor.dtype));
      }
      ++accepted;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ExitCode::kData) << error.what();
    }
  }
  EXPECT_GT(accepted, 100) << "changed numbers and texts leave a sound manifest";
}

TEST(SafeNames, AreTheDocumentedOnes) {
  for (const char* good : {"a", "_", "0", "shard-00000-of-00001.safetensors", "A.b-c_d"}) EXPECT_TRUE(is_safe_name(good)) << good;
  for (const char* bad : {"", ".", "..", ".a", "-a", "a/b", "/a", "a b", "a\n", "\xc3\xa9"}) EXPECT_FALSE(is_safe_name(bad)) << bad;
  EXPECT_TRUE(is_safe_name(std::string(128, 'a')));
  EXPECT_FALSE(is_safe_name(std::string(129, 'a')));
  EXPECT_FALSE(is_safe_name(std::string("a\0b", 3)));
}

}  // namespace
}  // namespace switchyard
