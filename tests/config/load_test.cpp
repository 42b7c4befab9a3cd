// Reading is strict, and every complaint says where and what to do.
#include "src/config/load.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "src/config/fields.h"
#include "tests/config/config_helper.h"

namespace switchyard {
namespace {

using ::testing::HasSubstr;

std::string complaint(const std::string& text) {
  return error_of(ExitCode::kUsage, [&] { parse_config(text, "run.textproto"); });
}
std::string override_complaint(const std::vector<std::string>& overrides) {
  return error_of(ExitCode::kUsage, [&] { valid_config_with(overrides); });
}

class Folder {
 public:
  Folder() {
    path_ = std::filesystem::path(::testing::TempDir()) / ("config_load_" + std::to_string(::getpid()));
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
    return (path_ / name).string();
  }
  std::string path(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

TEST(ConfigLoad, ReadsAFileAndItsOverrides) {
  const Folder folder;
  const std::string path = folder.write("a.textproto", "seed: 5 train { steps: 7 lanes: 2 }  # a comment\n");
  const std::vector<std::string> overrides = {"train.steps=200", "precision=BF16", "data.corpus=a b=c", "model.moe.capacity_factor=1.5", "log.trace=true"};
  const Config config = load_config(path, overrides);
  EXPECT_EQ(config.seed(), 5u);
  EXPECT_EQ(config.train().steps(), 200);
  EXPECT_EQ(config.train().lanes(), 2);
  EXPECT_EQ(config.precision(), Config::BF16);
  EXPECT_EQ(config.data().corpus(), "a b=c");
  EXPECT_EQ(config.model().moe().capacity_factor(), 1.5);
  EXPECT_TRUE(config.log().trace());
}

TEST(ConfigLoad, PrintedConfigurationReadsBackAsItself) {
  const Config config = valid_config_with({"optimizer.learning_rate=0.1", "model.z_loss=1e-30", "data.corpus=quote\" and \\ and \n"});
  const std::string printed = print_config(config);
  const Config again = parse_config(printed, "printed");
  EXPECT_EQ(print_config(again), printed);
  EXPECT_EQ(again.optimizer().learning_rate(), 0.1);
  EXPECT_EQ(again.model().z_loss(), 1e-30);
  EXPECT_EQ(again.data().corpus(), config.data().corpus());
}

TEST(ConfigLoad, PrintsEveryFieldOfTheSchema) {
  const std::string printed = print_config(Config());
  const Config again = parse_config(printed, "printed");
  visit_fields(again, [](const Field& field) {
    EXPECT_TRUE(field.owner->GetReflection()->HasField(*field.owner, field.descriptor)) << field.path << " was not printed";
  });
}

TEST(ConfigLoad, MisspeltFieldNamesTheNearestOne) {
  EXPECT_EQ(complaint("seed: 1\nmodel {\n  widht: 3\n}"), "run.textproto:3:8: unknown field \"widht\" (did you mean \"width\"?)");
  EXPECT_THAT(complaint("train { learning_rate: 1 }"), HasSubstr("unknown field \"learning_rate\" (did you mean \"optimizer.learning_rate\"?)"));
  EXPECT_THAT(complaint("steps: 3"), HasSubstr("(did you mean \"train.steps\"?)"));
  EXPECT_THAT(complaint("qqqqqqqqqqqqqqqqqq: 3"), ::testing::Not(HasSubstr("did you mean")));
}

TEST(ConfigLoad, FieldGivenTwiceIsAnError) {
  EXPECT_THAT(complaint("seed: 1 seed: 1"), HasSubstr("field \"seed\" is given more than once"));
  EXPECT_THAT(complaint("train { steps: 1 }\ntrain { lanes: 1 }"), HasSubstr("run.textproto:2:"));
}

TEST(ConfigLoad, WrongTypesAndNumbersOutOfRange) {
  EXPECT_THAT(complaint("train { steps: 1.5 }"), HasSubstr("run.textproto:1:16: Expected integer, got: 1.5"));
  EXPECT_THAT(complaint("train { steps: 99999999999999999999 }"), HasSubstr("Integer out of range"));
  EXPECT_THAT(complaint("seed: -1"), HasSubstr("Expected integer"));
  EXPECT_THAT(complaint("model { width: \"wide\" }"), HasSubstr("Expected integer"));
  EXPECT_THAT(complaint("optimizer { decay: much }"), HasSubstr("Expected double"));
  EXPECT_THAT(complaint("seed: [1, 2]"), HasSubstr("run.textproto:1:"));
}

TEST(ConfigLoad, UnknownValueOfAnEnumerationListsTheKnownOnes) {
  EXPECT_EQ(complaint("precision: FP16"), "run.textproto:1:16: precision is \"FP16\" but must be AUTO, F32 or BF16");
  EXPECT_THAT(complaint("precision: 17"), HasSubstr("must be AUTO, F32 or BF16"));
  EXPECT_THAT(override_complaint({"parallel.transport=PIGEON"}), HasSubstr("transport is \"PIGEON\" but must be AUTO, MPI, WINDOW, TWO_LEVEL or MPI_PAIRWISE"));
}

TEST(ConfigLoad, TenThousandNestedBracketsAreOneSentence) {
  for (const char* opening : {"{", "[", "<", "model {", "model { moe {", "seed: [", "seed: {", "[a.b/c] {"}) {
    std::string text;
    for (int i = 0; i < 10000; ++i) text += opening;
    const std::string sentence = complaint(text);
    EXPECT_LT(sentence.size(), 300u) << opening;
    EXPECT_EQ(sentence.find('\n'), std::string::npos);
  }
}

TEST(ConfigLoad, BinaryGarbageIsOnePrintableSentence) {
  std::string garbage;
  for (int i = 0; i < 4096; ++i) garbage += static_cast<char>((i * 131 + i / 7) & 0xff);
  for (const std::string& text : {garbage, std::string("\0\0\0", 3),
                                  std::string("\x7f"
                                              "ELF\x02\x01"),
                                  std::string(5000, 'x'), std::string("a: \"\n")}) {
    const std::string sentence = complaint(text);
    EXPECT_LT(sentence.size(), 400u);
    for (const char c : sentence) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << "byte " << static_cast<int>(c) << " in: " << sentence;
  }
}

TEST(ConfigLoad, FilesThatCannotBeReadAreInputErrors) {
  const Folder folder;
  const std::vector<std::string> none;
  EXPECT_THAT(error_of(ExitCode::kInputOutput, [&] { load_config(folder.path("missing"), none); }), HasSubstr("No such file"));
  EXPECT_THAT(error_of(ExitCode::kInputOutput, [&] { load_config(::testing::TempDir(), none); }), HasSubstr("not a regular file"));
  ASSERT_EQ(::mkfifo(folder.path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of(ExitCode::kInputOutput, [&] { load_config(folder.path("pipe"), none); }), HasSubstr("not a regular file"));
}

TEST(ConfigLoad, SizeIsLimited) {
  const Folder folder;
  const std::vector<std::string> none;
  const std::string largest = folder.write("largest", "#" + std::string(static_cast<size_t>(kMaxConfigBytes) - 1, 'a'));
  EXPECT_NO_THROW(load_config(largest, none));
  const std::string larger = folder.write("larger", "#" + std::string(static_cast<size_t>(kMaxConfigBytes), 'a'));
  EXPECT_THAT(error_of(ExitCode::kUsage, [&] { load_config(larger, none); }), HasSubstr("larger than 1048576 bytes"));
}

TEST(ConfigOverrides, KeepTheRulesOfTheFile) {
  EXPECT_THAT(override_complaint({"train.stepz=1"}), HasSubstr("--set train.stepz=1: there is no field \"train.stepz\" (did you mean \"steps\"?)"));
  EXPECT_THAT(override_complaint({"train=1"}), HasSubstr("is a group of fields; set one of them, such as \"train.steps\""));
  EXPECT_THAT(override_complaint({"seed.x=1"}), HasSubstr("\"seed\" holds a value"));
  EXPECT_THAT(override_complaint({"train.steps"}), HasSubstr("expected field=value"));
  EXPECT_THAT(override_complaint({"=1"}), HasSubstr("expected field=value"));
  EXPECT_THAT(override_complaint({"train.steps=1", "train.steps=1"}), HasSubstr("more than once"));
  EXPECT_THAT(override_complaint({"train.steps="}), HasSubstr("Expected integer"));
  EXPECT_THAT(override_complaint({"train.steps=1 lanes: 3"}), HasSubstr("--set train.steps=1 lanes: 3: "));
  EXPECT_THAT(override_complaint({"log.trace=maybe"}), HasSubstr("log.trace=maybe"));
}

TEST(ConfigOverrides, ReplaceWhatTheFileSays) {
  EXPECT_EQ(valid_config_with({"train.lanes=7"}).train().lanes(), 7);
  EXPECT_EQ(valid_config_with({"data.corpus="}).data().corpus(), "");
}

}  // namespace
}  // namespace switchyard
