#include "src/report/read_run.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "src/base/error.h"
#include "tests/report/report_helper.h"

namespace switchyard {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

class ReadRun : public ::testing::Test {
 protected:
  RunRecord read(const std::string& metrics) {
    std::ofstream(scratch_.path("metrics.jsonl"), std::ios::binary) << metrics;
    return read_run(scratch_.path());
  }

  Scratch scratch_;
};

std::string line(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 10.0 / static_cast<double>(step);
  metrics.seconds = 2.0 * static_cast<double>(step);
  metrics.flops = 1e9;
  metrics.layers = {{{0.25, 0.75}, 0.5, 0.6, 0.7}};
  return to_json(metrics) + "\n";
}

TEST_F(ReadRun, GivesBackWhatWasWritten) {
  const HeldoutMetrics heldout{.step = 2, .tokens = 9, .seconds = 4, .flops = 5, .loss = 3, .accuracy = 0.5, .bits_per_byte = 1.5};
  const Alarm alarm{.kind = "load", .step = 2, .layer = 1, .experts = {3, 4}, .value = 5, .sentence = "look"};
  const RunRecord run = read(line(1) + to_json(alarm) + "\n" + line(2) + to_json(heldout) + "\n");
  ASSERT_EQ(run.steps.size(), 2u);
  EXPECT_EQ(run.steps[1].loss, 5);
  EXPECT_EQ(run.steps[1].seconds, 4);
  EXPECT_EQ(run.steps[0].layers[0].load, (std::vector<double>{0.25, 0.75}));
  EXPECT_EQ(run.steps[0].layers[0].confidence, 0.7);
  ASSERT_EQ(run.heldout.size(), 1u);
  EXPECT_EQ(run.heldout[0].bits_per_byte, 1.5);
  ASSERT_EQ(run.alarms.size(), 1u);
  EXPECT_EQ(run.alarms[0].experts, (std::vector<int>{3, 4}));
  EXPECT_EQ(run.alarms[0].sentence, "look");
  EXPECT_TRUE(run.notes.empty()) << run.notes[0];
  EXPECT_FALSE(run.running);
}

TEST_F(ReadRun, AnIncompleteLastLineIsLeftOutAndSaidSo) {
  const std::string text = line(1) + line(2);
  for (const size_t cut : {size_t{1}, size_t{20}, line(2).size() - 1}) {
    const RunRecord run = read(text.substr(0, text.size() - cut));
    EXPECT_EQ(run.steps.size(), 1u) << cut << " bytes are missing";
    EXPECT_THAT(run.notes, Contains(HasSubstr("the last line of metrics.jsonl is incomplete")));
  }
}

TEST_F(ReadRun, LinesThatAreNoMetricsOrGoBackAreLeftOutAndCounted) {
  const RunRecord run = read(line(5) + "garbage\n[1]\n{}\n{\"step\":-3}\n{\"step\":\"x\"}\n{\"step\":18446744073709551615}\n" + line(5) + line(4) + line(6));
  ASSERT_EQ(run.steps.size(), 2u);
  EXPECT_EQ(run.steps[1].step, 6);
  EXPECT_THAT(run.notes, Contains(HasSubstr("8 lines of metrics.jsonl hold no metrics")));
}

TEST_F(ReadRun, FieldsOfTheWrongTypeAreMissingFields) {
  const RunRecord run = read("{\"step\":1,\"loss\":\"<script>\",\"layers\":[3,{\"load\":7},{\"load\":[\"x\",0.5]}],\"tokens\":1.5}\n");
  ASSERT_EQ(run.steps.size(), 1u);
  EXPECT_TRUE(std::isnan(run.steps[0].loss));
  EXPECT_EQ(run.steps[0].tokens, 0);
  ASSERT_EQ(run.steps[0].layers.size(), 3u);
  EXPECT_TRUE(run.steps[0].layers[1].load.empty());
  EXPECT_TRUE(std::isnan(run.steps[0].layers[2].load[0]));
  EXPECT_EQ(run.steps[0].layers[2].load[1], 0.5);
}

TEST_F(ReadRun, LinesOfAnOlderProgramGetSecondsAndFlops) {
  RunRecord run = read("{\"step\":10,\"loss\":3,\"tokens\":100,\"step_seconds\":0.5}\n{\"step\":20,\"loss\":2,\"tokens\":200,\"step_seconds\":1.5}\n");
  ASSERT_EQ(run.steps.size(), 2u);
  EXPECT_EQ(run.steps[0].seconds, 5) << "a line stands for the steps since the one before";
  EXPECT_EQ(run.steps[1].seconds, 20);
  EXPECT_TRUE(run.estimated_seconds);
  EXPECT_THAT(run.notes, Contains(HasSubstr("seconds were estimated")));
  EXPECT_TRUE(std::isnan(run.steps[1].flops));
  complete_flops(run, 6);
  EXPECT_EQ(run.steps[1].flops, 1200);
}

TEST_F(ReadRun, ARunWithoutALineYetIsARunWithoutSteps) {
  EXPECT_THAT(read("").notes, Contains("no step has been logged yet"));
  std::filesystem::remove(scratch_.path("metrics.jsonl"));
  std::ofstream(scratch_.path("config.textproto")) << "seed: 1\n";
  EXPECT_TRUE(read_run(scratch_.path()).steps.empty());
}

ExitCode code_of(const std::string& path) {
  try {
    read_run(path);
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::kOk;
}

TEST_F(ReadRun, WhatIsNoRunIsAnError) {
  EXPECT_EQ(code_of(scratch_.path("missing")), ExitCode::kInputOutput);
  EXPECT_EQ(code_of(scratch_.path()), ExitCode::kData) << "an empty folder";
  std::ofstream(scratch_.path("metrics.jsonl")) << std::string((16 << 20) + 1, 'x');
  EXPECT_EQ(code_of(scratch_.path()), ExitCode::kData) << "an endless line";
}

TEST_F(ReadRun, TheNameIsTheFoldersHoweverItIsWritten) {
  read(line(1));
  const std::string name = std::filesystem::path(scratch_.path()).filename();
  EXPECT_EQ(read_run(scratch_.path()).name, name);
  EXPECT_EQ(read_run(scratch_.path() + "/").name, name);
  EXPECT_EQ(read_run(scratch_.path() + "/.").name, name);
}

TEST_F(ReadRun, ALockedRunIsRunning) {
  read(line(1));
  const int file = ::open(scratch_.path("run.lock").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_GE(file, 0);
  EXPECT_FALSE(read_run(scratch_.path()).running) << "nobody holds the lock";
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  ASSERT_EQ(::fcntl(file, F_OFD_SETLK, &whole), 0);
  EXPECT_TRUE(read_run(scratch_.path()).running);
  ::close(file);
}

}  // namespace
}  // namespace switchyard
