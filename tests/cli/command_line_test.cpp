// The program as its users meet it: help, one sentence for every mistake, exit codes.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/cli/process_helper.h"

namespace switchyard {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::vector<std::string> kCommands = {"tokenize", "summary", "train", "eval", "predict", "generate", "verify", "profile", "report", "inspect", "doctor"};

TEST(CommandLine, HelpNamesEveryCommandAndEveryCommandHasHelp) {
  const Outcome program = run_program({"--help"});
  EXPECT_EQ(program.code, 0);
  for (const std::string& command : kCommands) {
    EXPECT_THAT(program.out, HasSubstr("  " + command + " "));
    const Outcome outcome = run_program({command, "--help"});
    EXPECT_EQ(outcome.code, 0) << command;
    EXPECT_THAT(outcome.out, HasSubstr("Usage: switchyard " + command));
    EXPECT_EQ(outcome.err, "");
  }
}

TEST(CommandLine, MistakesAreOneSentenceAndExitCode2) {
  expect_refusal(run_program({}), 2);
  EXPECT_THAT(expect_refusal(run_program({"frobnicate"}), 2), HasSubstr("there is no command \"frobnicate\""));
  EXPECT_THAT(expect_refusal(run_program({"--frobnicate"}), 2), HasSubstr("see switchyard --help"));
  EXPECT_THAT(expect_refusal(run_program({"summary"}), 2), HasSubstr("CONFIG"));
  EXPECT_THAT(expect_refusal(run_program({"summary", shipped_config("lm_tiny"), "--ranks", "many"}), 2), HasSubstr("many"));
  EXPECT_THAT(expect_refusal(run_program({"summary", shipped_config("lm_tiny"), "--ranks", "0"}), 2), HasSubstr("--ranks is 0"));
  expect_refusal(run_program({"doctor", "extra"}), 2);
}

TEST(CommandLine, AFullDiskBehindStandardOutputIsAnError) {
  const Outcome outcome = run_program({"summary", shipped_config("lm_tiny")}, "/dev/full");
  EXPECT_EQ(outcome.code, 74);
  EXPECT_EQ(outcome.err.rfind("switchyard: ", 0), 0u) << outcome.err;
}

TEST(Configuration, HostileFilesAreOneSentence) {
  const Folder folder;
  std::string nested, garbage;
  for (int i = 0; i < 10000; ++i) nested += "model {";
  for (int i = 0; i < 3000; ++i) garbage += static_cast<char>(i * 37 + 11);
  EXPECT_THAT(expect_refusal(run_program({"summary", folder.path("missing")}), 74), HasSubstr("No such file"));
  expect_refusal(run_program({"summary", folder.path("")}), 74);
  expect_refusal(run_program({"summary", folder.write("nested", nested)}), 2);
  expect_refusal(run_program({"summary", folder.write("garbage", garbage)}), 2);
  EXPECT_THAT(expect_refusal(run_program({"summary", folder.write("empty", "")}), 2), HasSubstr("model.vocabulary is 0"));
  EXPECT_THAT(expect_refusal(run_program({"summary", folder.write("misspelt", "model { widht: 1 }")}), 2), HasSubstr("did you mean \"width\"?"));
}

TEST(Configuration, OverridesAreChecked) {
  const auto refusal = [](const std::string& assignment) {
    return expect_refusal(run_program({"summary", shipped_config("lm_tiny"), "--set", assignment}), 2);
  };
  EXPECT_THAT(refusal("train.stepz=1"), HasSubstr("did you mean \"steps\"?"));
  EXPECT_THAT(refusal("optimizer.learning_rate=nan"), HasSubstr("optimizer.learning_rate is nan but must be"));
  EXPECT_THAT(refusal("model.width=-4"), HasSubstr("model.width is -4 but must be between 1 and 65536"));
  EXPECT_THAT(refusal("model.width=1000000000000"), HasSubstr("model.width is 1000000000000 but"));
}

TEST(Configuration, EachSetTakesOneWord) {
  const Outcome outcome = run_program({"summary", "--set", "train.lanes=5", "--set=seed=9", shipped_config("lm_tiny"), "--resolved"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("seed: 9\n"));
  EXPECT_THAT(outcome.out, HasSubstr("lanes: 5\n"));
}

TEST(Summary, ReportsTheSameNumbersAsJson) {
  const Outcome outcome = run_program({"summary", shipped_config("lm_small"), "--json", "--set", "precision=F32"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_EQ(report.at("tokens_per_step"), 4096);
  EXPECT_EQ(report.at("precision"), "F32");
  int64_t parameters = 0, bytes = 0;
  for (const json& layer : report.at("layers")) parameters += layer.at("parameters").get<int64_t>();
  for (const json& part : report.at("memory")) bytes += part.at("bytes").get<int64_t>();
  EXPECT_EQ(report.at("parameters"), parameters);
  EXPECT_EQ(report.at("memory_bytes_per_rank"), bytes);
  EXPECT_THAT(run_program({"summary", shipped_config("lm_small")}).out, HasSubstr(std::to_string(parameters)));
}

TEST(Summary, MoreRanksThanLanesNamesTheField) {
  EXPECT_THAT(expect_refusal(run_program({"summary", shipped_config("lm_small"), "--ranks", "4"}), 2), HasSubstr("raise train.lanes to at least 4"));
}

TEST(Doctor, ExitCodeSaysWhetherSomethingIsMissing) {
  const Outcome outcome = run_program({"doctor", "--json"});
  const json report = json::parse(outcome.out);
  EXPECT_EQ(outcome.code, report.at("ok").get<bool>() ? 0 : 1);
  bool missing = false, onednn = false;
  for (const json& finding : report.at("findings")) {
    missing = missing || finding.at("state") == "missing";
    onednn = onednn || finding.at("name") == "oneDNN";
  }
  EXPECT_EQ(missing, !report.at("ok").get<bool>());
  EXPECT_TRUE(onednn);
}

TEST(Tokenize, MakesAFolderOnceAndTellsWhatIsInIt) {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 300; ++i) text += "document number " + std::to_string(i) + "\n";
  const std::vector<std::string> command = {"tokenize", folder.write("text", text), "-o", folder.path("data"), "--tokenizer", "bytes", "--hold-out", "5",
                                            "--json"};
  const Outcome outcome = run_program(command);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_EQ(report.at("vocabulary"), 257);
  EXPECT_EQ(report.at("train").at("documents").get<int64_t>() + report.at("heldout").at("documents").get<int64_t>(), 300);
  EXPECT_EQ(report.at("train").at("bytes").get<int64_t>() + report.at("heldout").at("bytes").get<int64_t>(), static_cast<int64_t>(text.size()));
  EXPECT_THAT(expect_refusal(run_program(command), 2), HasSubstr("already holds something"));
}

TEST(Tokenize, BadInputHasItsExitCode) {
  const Folder folder;
  const auto refusal = [&](const std::vector<std::string>& more, int code) {
    std::vector<std::string> command = {"tokenize", "-o", folder.path("data"), "--tokenizer", "bytes"};
    command.insert(command.end(), more.begin(), more.end());
    return expect_refusal(run_program(command), code);
  };
  refusal({folder.path("missing")}, 74);
  refusal({folder.write("empty", "")}, 65);
  refusal({folder.write("latin", "caf\xe9\n")}, 65);
  refusal({folder.write("text", "text\n"), "--documents", "chapter"}, 2);
  expect_refusal(run_program({"tokenize", folder.path("text")}), 2);
}

TEST(Generate, DrawsOutsideTheirRangeAreRefused) {
  const Folder folder;
  const auto refusal = [&](const std::string& option, const std::string& value) {
    return expect_refusal(run_program({"generate", folder.path(""), option, value}), 2);
  };
  for (const std::string value : {"0", "-0.5", "1.01", "nan", "inf", "half", "0.5x", ""}) EXPECT_THAT(refusal("--top-p", value), HasSubstr("--top-p")) << value;
  EXPECT_THAT(refusal("--top-p", "0"), HasSubstr("expected a number above 0 and at most 1, found 0"));
  for (const std::string value : {"-1", "101", "nan"}) EXPECT_THAT(refusal("--temperature", value), HasSubstr("--temperature")) << value;
  EXPECT_THAT(refusal("--top-k", "-1"), HasSubstr("--top-k"));
  // A right one reaches the run, which is not there.
  EXPECT_THAT(expect_refusal(run_program({"generate", folder.path("missing"), "--top-p", "0.9"}), 74), HasSubstr("missing"));
}

TEST(Inspect, DirectoriesWithoutACheckpointAreNamed) {
  const Folder folder;
  EXPECT_THAT(expect_refusal(run_program({"inspect", folder.path("missing")}), 74), HasSubstr("is no directory"));
  EXPECT_THAT(expect_refusal(run_program({"inspect", folder.path("")}), 65), HasSubstr("holds no checkpoint"));
}

}  // namespace
}  // namespace switchyard
