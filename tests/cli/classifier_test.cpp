// A classifier's life as its users meet it: train in epochs, eval, predict, summary.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/process_helper.h"

namespace switchyard {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// One trained run for all tests of this file.
class ClassifierRun : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<Folder>();
    trained_ = run_program({"train", shipped_config("classify_tiny"), "--run", run(), "--set", "threads=1", "--set", "precision=F32"});
  }
  static void TearDownTestSuite() { folder_.reset(); }
  static std::string run() { return folder_->path("run"); }
  static std::vector<json> predicted(const std::vector<std::string>& more, const std::string& input = "/dev/null") {
    std::vector<std::string> command = {"predict", run(), "--json"};
    command.insert(command.end(), more.begin(), more.end());
    const Outcome outcome = run_program(command, "", input);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    std::istringstream lines(outcome.out);
    std::vector<json> answers;
    for (std::string line; std::getline(lines, line);) answers.push_back(json::parse(line));
    return answers;
  }

  static std::unique_ptr<Folder> folder_;
  static Outcome trained_;
};
std::unique_ptr<Folder> ClassifierRun::folder_;
Outcome ClassifierRun::trained_;

TEST_F(ClassifierRun, EvaluatesAfterEachEpochAndKeepsTheBest) {
  ASSERT_EQ(trained_.code, 0) << trained_.err;
  for (const char* epoch : {", epoch 1 of 4: held-out loss ", ", epoch 2 of 4: ", ", epoch 4 of 4: "}) EXPECT_THAT(trained_.err, HasSubstr(epoch));
  EXPECT_THAT(trained_.err, AllOf(HasSubstr("macro F1"), HasSubstr("best so far: saved"), Not(HasSubstr("perplexity"))));
  EXPECT_TRUE(std::filesystem::is_directory(run() + "/best"));
}

TEST_F(ClassifierRun, IsEvaluatedAtItsBest) {
  const Outcome outcome = run_program({"eval", run(), "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_THAT(report.at("checkpoint").get<std::string>(), HasSubstr("/best/step-"));
  EXPECT_GT(report.at("accuracy").get<double>(), 0.6) << "four classes that have verbs of their own";
  EXPECT_GT(report.at("macro_f1").get<double>(), 0.6);
  int64_t texts = 0;
  for (const json& row : report.at("confusion")) {
    for (const json& count : row) texts += count.get<int64_t>();
  }
  EXPECT_EQ(report.at("targets"), texts);
  ASSERT_EQ(report.at("classes").size(), 4u);
  EXPECT_EQ(report.at("classes")[0].at("label"), "gain");
  const json last = json::parse(run_program({"eval", run(), "--json", "--set", "checkpoint.keep_best=false"}).out);
  EXPECT_THAT(last.at("checkpoint").get<std::string>(), Not(HasSubstr("/best/")));
  EXPECT_GE(last.at("loss").get<double>(), report.at("loss").get<double>());
  const std::string text = run_program({"eval", run()}).out;
  EXPECT_THAT(text, AllOf(HasSubstr("accuracy"), HasSubstr("macro F1"), HasSubstr("taken for"), HasSubstr("rest")));
}

TEST_F(ClassifierRun, PredictsTextsAndLinesAlike) {
  const std::vector<std::string> texts = {"the river follows the wagon.", "", "the engine hides the lantern. the driver leaves the letter.",
                                          "unheard-of words"};
  std::string lines;
  std::vector<std::string> options;
  for (const std::string& text : texts) {
    lines += text + "\r\n";
    options.insert(options.end(), {"--text", text});
  }
  const std::vector<json> one = predicted(options), other = predicted({}, folder_->write("lines", lines));
  ASSERT_EQ(one.size(), texts.size());
  EXPECT_EQ(one, other);
  for (const json& answer : one) {
    double sum = 0, largest = 0;
    for (const auto& [label, probability] : answer.at("probabilities").items()) {
      sum += probability.get<double>();
      largest = std::max(largest, probability.get<double>());
    }
    EXPECT_NEAR(sum, 1, 1e-9);
    EXPECT_EQ(answer.at("probabilities").at(answer.at("label").get<std::string>()), largest);
  }
  EXPECT_EQ(one[0].at("label"), "motion");
  EXPECT_EQ(one[2].at("label"), "loss");
}

TEST_F(ClassifierRun, ExplainsTheWayOfEveryToken) {
  const std::vector<json> answers = predicted({"--text", "the river follows", "--explain"});
  ASSERT_EQ(answers.size(), 1u);
  ASSERT_EQ(answers[0].at("tokens").size(), 3u);
  EXPECT_EQ(answers[0].at("tokens")[1].at("token"), "river");
  for (const json& token : answers[0].at("tokens")) {
    ASSERT_EQ(token.at("layers").size(), 2u);
    for (const json& layer : token.at("layers")) EXPECT_EQ(layer.size(), 1u);
  }
  const std::string text = run_program({"predict", run(), "--text", "the river follows", "--explain"}).out;
  EXPECT_THAT(text, AllOf(HasSubstr("motion "), HasSubstr("MoE layer 1\n"), HasSubstr("\n  river "), HasSubstr("expert ")));
}

TEST_F(ClassifierRun, LongTextsAreCutAndBrokenOnesRefused) {
  std::string million;
  while (million.size() < 1000000) million += "the river follows the wagon. ";
  const std::vector<json> answers = predicted({}, folder_->write("million", million));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].at("label"), "motion");
  const Outcome broken = run_program({"predict", run()}, "", folder_->write("broken", "fine\nab\xff\n"));
  EXPECT_EQ(broken.code, 65);
  EXPECT_THAT(broken.err, HasSubstr("text 2 is not UTF-8: its byte 2 begins no character"));
  EXPECT_EQ(predicted({}, folder_->write("nothing", "")).size(), 0u);
}

TEST_F(ClassifierRun, IsNoLanguageModel) {
  const Outcome outcome = run_program({"generate", run(), "--prompt", "the"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("use switchyard predict"));
}

TEST(Predict, RefusesALanguageModel) {
  const Folder folder;
  ASSERT_EQ(run_program({"train", shipped_config("lm_tiny"), "--run", folder.path("run"), "--set", "train.steps=1", "--set", "threads=1"}).code, 0);
  const Outcome outcome = run_program({"predict", folder.path("run"), "--text", "x"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("use switchyard generate"));
  EXPECT_EQ(run_program({"predict", folder.path("missing"), "--text", "x"}).code, 74);
}

TEST(Train, ARunKeepsTheTokenizerItWasTrainedWith) {
  const Folder folder;
  std::string table;
  for (int i = 0; i < 40; ++i) table += std::string(i % 2 == 0 ? "even" : "odd") + "\tnumber " + std::to_string(i) + "\n";
  const std::string texts = folder.write("texts.tsv", table), data = folder.path("data");
  const auto tokenize = [&](const std::string& tokenizer) {
    std::filesystem::remove_all(data);
    const Outcome outcome = run_program({"tokenize", "--labelled", texts, "--tokenizer", tokenizer, "--output", data});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  };
  const auto train = [&](const std::string& epochs) {
    return run_program({"train", shipped_config("classify_tiny"), "--run", folder.path("run"), "--resume", "--set", "data.corpus=" + data, "--set",
                        "model.classifier.classes=2", "--set", "threads=1", "--set", "model.vocabulary=264", "--set", "train.epochs=" + epochs});
  };
  tokenize("bytes");
  const Outcome first = train("1");
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(train("2").code, 0) << "the same tokenizer goes on";
  tokenize("words");
  const Outcome resumed = train("3"), predicted = run_program({"predict", folder.path("run"), "--text", "number 7"});
  for (const Outcome& outcome : {resumed, predicted}) EXPECT_THAT(expect_refusal(outcome, 65), HasSubstr("was trained with a tokenizer of digest"));
}

TEST(Train, TheClassesAreThoseOfTheData) {
  const Folder folder;
  const Outcome outcome = run_program({"train", shipped_config("classify_tiny"), "--run", folder.path("run"), "--set", "model.classifier.classes=5"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("model.classifier.classes is 5 but the texts of data.corpus have 4 labels: set it to that"));
}

TEST(Summary, ShowsAClassifierLayerByLayer) {
  const std::string text = run_program({"summary", shipped_config("classify_tutorial")}).out;
  EXPECT_THAT(text, AllOf(HasSubstr("Output shape"), HasSubstr("(None, 200, 32)"), HasSubstr("MoE: 4 experts, 1 a token"), HasSubstr("(None, 2)")));
  const json report = json::parse(run_program({"summary", shipped_config("classify_tutorial"), "--json"}).out);
  EXPECT_EQ(report.at("layers")[0].at("parameters"), 20000 * 32 + 200 * 32);
  EXPECT_EQ(report.at("layers")[0].at("output"), (json{200, 32}));
}

}  // namespace
}  // namespace switchyard
