// The text made by the program is the same everywhere and leaves nothing behind.
#include "src/data/builtin.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace switchyard {
namespace {

TEST(Builtin, TextIsAlwaysTheSame) {
  const std::string text = builtin_text();
  EXPECT_EQ(text, builtin_text());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 400);
  EXPECT_EQ(digest_of(text).hex(), "46dc2363716f1a7601fe9dae084a29b9") << "runs of earlier versions trained on another text";
}

TEST(Builtin, DatasetReadsAfterItsFilesAreGone) {
  const std::string folder = ::testing::TempDir() + "/builtin-XXXXXX";
  std::string made = folder;
  ASSERT_NE(::mkdtemp(made.data()), nullptr);
  const char* before = std::getenv("TMPDIR");
  const std::string saved = before == nullptr ? "" : before;
  ::setenv("TMPDIR", made.c_str(), 1);
  const Dataset data = open_builtin_dataset();
  before == nullptr ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", saved.c_str(), 1);
  EXPECT_TRUE(std::filesystem::is_empty(made)) << "temporary files stay in " << made;
  std::filesystem::remove_all(made);

  const std::string text = builtin_text();
  EXPECT_EQ(data.tokenizer->vocabulary(), 257);
  EXPECT_EQ(data.train->documents() + data.heldout->documents(), 400);
  EXPECT_GT(data.heldout->documents(), 10);
  std::vector<int32_t> tokens(static_cast<size_t>(data.train->tokens()));
  data.train->read(0, tokens);
  EXPECT_NE(text.find(data.tokenizer->decode(std::span(tokens).first(static_cast<size_t>(data.train->document(0).end - 1)))), std::string::npos);
}

}  // namespace
}  // namespace switchyard
