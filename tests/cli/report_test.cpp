// switchyard report as its users meet it: a page about runs that were trained, cut off, or are no runs at all.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/cli/process_helper.h"

namespace switchyard {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

int64_t lines_with(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// A short run of lm_tiny with alarms that are easily given. Its folder.
std::string train(const Folder& folder, const std::string& name, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"train", shipped_config("lm_tiny"),
                                        "--run", folder.path(name),
                                        "--set", "threads=1",
                                        "--set", "train.steps=6",
                                        "--set", "log.every=2",
                                        "--set", "eval.every=3",
                                        "--set", "eval.batches=2",
                                        "--set", "log.alarm_unused_steps=2",
                                        "--set", "log.alarm_dropped=0.001"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Outcome outcome = run_program(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return folder.path(name);
}

TEST(Report, ARunBecomesAPageWithItsRoutedText) {
  const Folder folder;
  const std::string run = train(folder, "run", {});
  const std::string metrics = content(run + "/metrics.jsonl");
  EXPECT_EQ(lines_with(metrics, "\"kind\":\"heldout\""), 2) << metrics;
  EXPECT_EQ(lines_with(metrics, "\"alarm\":\"dropped\""), 1) << "given once: " << metrics;
  const Outcome outcome = run_program({"report", run, "--tokens", "20"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, run + "/report.html\n");
  const std::string page = content(run + "/report.html");
  EXPECT_THAT(page, HasSubstr("The first 20 tokens of the held-out text"));
  EXPECT_EQ(lines_with(page, "<span class=\"token b"), 20 + lines_with(page, "&#215;")) << "tokens, and those of the experts' tables";
  EXPECT_THAT(page, HasSubstr("<dd>6 of 6</dd>"));
  EXPECT_THAT(page, HasSubstr("<h2>Alarms</h2>"));
  EXPECT_THAT(page, HasSubstr("model.moe.capacity_factor"));
}

TEST(Report, ResumingCutsEvaluationsAndAlarmsBackAndGivesNoAlarmTwice) {
  const Folder folder;
  const std::string run = train(folder, "run", {"--set", "checkpoint.every=4"});
  const std::string whole = content(run + "/metrics.jsonl");
  std::filesystem::remove_all(run + "/step-000000006");
  train(folder, "run", {"--set", "checkpoint.every=4", "--resume"});
  const std::string again = content(run + "/metrics.jsonl");
  EXPECT_EQ(lines_with(again, "\n"), lines_with(whole, "\n")) << whole << "\nresumed:\n" << again;
  EXPECT_EQ(lines_with(again, "\"kind\":\"heldout\""), 2);
  EXPECT_EQ(lines_with(again, "\"alarm\":\"dropped\""), 1);
}

TEST(Report, RunsThatWereCutOffOrAreDenseStandOnOnePageWithTheirDifferences) {
  const Folder folder;
  const std::string sparse = train(folder, "sparse", {}), dense = train(folder, "dense", {"--set", "model.moe.experts=1"});
  const std::string metrics = content(sparse + "/metrics.jsonl");
  std::ofstream(sparse + "/metrics.jsonl", std::ios::binary) << metrics.substr(0, metrics.size() - 30);
  std::filesystem::remove_all(sparse + "/step-000000006");
  const std::string output = folder.path("both.html"), text = folder.write("text.txt", "a text & <more>");
  const Outcome outcome = run_program({"report", sparse, dense, "--output", output});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::string page = content(output);
  EXPECT_THAT(page, HasSubstr("the last line of metrics.jsonl is incomplete"));
  EXPECT_THAT(page, HasSubstr("<tr><th><code>model.moe.experts</code></th><td>6</td><td>1</td></tr>"));
  EXPECT_THAT(page, HasSubstr("sparse could not be shown a text: "));
  EXPECT_EQ(run_program({"report", sparse, "--text-file", text, "--output", output}).code, 65) << "a text that was asked for must be shown";
}

TEST(Report, ATextOfTheUsersIsRoutedAndEscaped) {
  const Folder folder;
  const std::string run = train(folder, "run", {}), text = folder.write("text.txt", "<b>&");
  ASSERT_EQ(run_program({"report", run, "--text-file", text}).code, 0);
  const std::string page = content(run + "/report.html");
  EXPECT_THAT(page, HasSubstr("The first 5 tokens of " + text));
  EXPECT_THAT(page, HasSubstr("&lt;</span>"));
  EXPECT_THAT(page, Not(HasSubstr("<b>&</")));
}

TEST(Report, MistakesAreOneSentence) {
  const Folder folder;
  EXPECT_THAT(expect_refusal(run_program({"report", folder.path("missing")}), 74), HasSubstr("is no directory"));
  EXPECT_THAT(expect_refusal(run_program({"report", folder.path("")}), 65), HasSubstr("holds no run"));
  expect_refusal(run_program({"report"}), 2);
  expect_refusal(run_program({"report", folder.path(""), "--tokens", "-1"}), 2);
  folder.write("metrics.jsonl", "");
  EXPECT_THAT(expect_refusal(run_program({"report", folder.path(""), "--output", folder.path("no/such/page.html")}), 74), HasSubstr("page.html"));
}

}  // namespace
}  // namespace switchyard
