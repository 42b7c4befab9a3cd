#include "src/data/labels.h"

#include <fmt/format.h>

#include "tests/data/data_helper.h"

namespace switchyard {

namespace {

Labels labels_of(const std::vector<std::string>& names) {
  std::vector<Label> labels;
  for (const std::string& name : names) labels.push_back({name, 1, 0});
  return Labels(std::move(labels));
}

TEST(Labels, AreSortedByTheirBytesOrAsNumbers) {
  EXPECT_EQ(labels_of({"pos", "neg", "Neutral"}).names(), (std::vector<std::string>{"Neutral", "neg", "pos"}));
  EXPECT_EQ(labels_of({"10", "9", "-1", "0"}).names(), (std::vector<std::string>{"-1", "0", "9", "10"}));
  EXPECT_EQ(labels_of({"10", "9", "1.5"}).names(), (std::vector<std::string>{"1.5", "10", "9"}));
  EXPECT_EQ(labels_of({"10", "9", "01"}).names(), (std::vector<std::string>{"01", "10", "9"})) << "01 is a word";
}

TEST(Labels, AreFoundByName) {
  const Labels labels = labels_of({"b", "a", "c"});
  EXPECT_EQ(labels.classes(), 3);
  EXPECT_EQ(labels.find("a"), 0);
  EXPECT_EQ(labels.find("c"), 2);
  EXPECT_EQ(labels.find("d"), std::nullopt);
  EXPECT_EQ(labels.name(1), "b");
}

TEST(Labels, TheDigestIsThatOfTheNames) {
  EXPECT_EQ(labels_of({"a", "b"}).digest(), labels_of({"b", "a"}).digest());
  EXPECT_NE(labels_of({"a", "b"}).digest(), labels_of({"a", "c"}).digest());
  EXPECT_NE(labels_of({"a", "bc"}).digest(), labels_of({"ab", "c"}).digest());
}

TEST(Labels, ThatNoClassifierCanUseAreRefused) {
  expect_error(ExitCode::kData, "there is no labelled text", [] { labels_of({}); });
  expect_error(ExitCode::kData, "every example has the label \"pos\"; a classifier needs examples of at least two classes", [] { labels_of({"pos"}); });
  expect_error(ExitCode::kData, "the label \"a\" is listed twice", [] { labels_of({"a", "b", "a"}); });
  expect_error(ExitCode::kData, "a label has 0 bytes", [] { labels_of({"a", ""}); });
  expect_error(ExitCode::kData, "a label has 257 bytes", [] { labels_of({"a", std::string(257, 'b')}); });
  expect_error(ExitCode::kData, "is not UTF-8", [] { labels_of({"a", "\xFF"}); });
  std::vector<std::string> many;
  for (int i = 0; i < 10001; ++i) many.push_back(fmt::format("text {}", i));
  expect_error(ExitCode::kData, "there are 10001 different labels, and at most 10000 are allowed", [&] { labels_of(many); });
}

TEST(Labels, GoThroughAFile) {
  TemporaryFolder folder;
  const Labels labels(std::vector<Label>{{"tab\there", 7, 1}, {"\"quoted\"\n", 0, 3}, {"é", 2, 0}});
  save_labels(labels, folder.path("labels"));
  const Labels loaded = load_labels(folder.path("labels"));
  EXPECT_EQ(loaded.names(), labels.names());
  EXPECT_EQ(loaded.digest(), labels.digest());
  for (int32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(loaded[i].train, labels[i].train);
    EXPECT_EQ(loaded[i].heldout, labels[i].heldout);
  }
}

TEST(Labels, AFileThatIsNoneIsRefused) {
  TemporaryFolder folder;
  const auto refused = [&](const std::string& bytes, const char* why) {
    const std::string path = folder.write("labels", bytes);
    expect_error(ExitCode::kData, why, [&] { load_labels(path); });
  };
  refused("", "it is no JSON object with \"labels\"");
  refused("[]", "it is no JSON object with \"labels\"");
  refused("{\"labels\": 3}", "it is no JSON object with \"labels\"");
  refused("{\"labels\": [3]}", "label 0 has no name or no counts");
  refused(R"({"labels": [{"name": "a", "train": 1, "heldout": 0}, {"name": "b", "train": -1, "heldout": 0}]})", "label 1 has no name or no counts");
  refused(R"({"labels": [{"name": "a", "train": 18446744073709551615, "heldout": 0}]})", "label 0 has no name or no counts");
  refused(R"({"labels": [{"name": 7, "train": 1, "heldout": 0}]})", "label 0 has no name or no counts");
  refused(std::string(100000, '['), "it is no JSON object");
  expect_error(ExitCode::kInputOutput, "cannot open labels", [&] { load_labels(folder.path("absent")); });
}

}  // namespace
}  // namespace switchyard
