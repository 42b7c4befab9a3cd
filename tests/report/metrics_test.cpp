#include "src/report/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "tests/report/report_helper.h"

namespace switchyard {
namespace {

StepMetrics example() {
  StepMetrics metrics;
  metrics.step = 12;
  metrics.loss = 0.1;
  metrics.tokens = int64_t{1} << 40;
  metrics.learning_rate = 1e-3;
  metrics.layers = {{{0.25, 0.75}, 0.5, 0.6, 0.7}};
  return metrics;
}

TEST(Metrics, ALineHasExactlyTheNamesThatScriptsRelyOn) {
  const nlohmann::ordered_json line = nlohmann::ordered_json::parse(to_json(example()));
  std::vector<std::string> names;
  for (const auto& [name, value] : line.items()) names.push_back(name);
  EXPECT_THAT(names, ::testing::ElementsAre("step", "loss", "tokens", "tokens_per_second", "step_seconds", "gradient_norm", "learning_rate", "balance_loss",
                                            "z_loss", "dropped_fraction", "all_to_all_seconds", "gradient_sum_seconds", "layers", "seconds", "flops",
                                            "padding_tokens", "skips", "compute_seconds", "publish_seconds", "control_seconds", "input_seconds"));
  names.clear();
  for (const auto& [name, value] : line["layers"][0].items()) names.push_back(name);
  EXPECT_THAT(names, ::testing::ElementsAre("load", "dropped", "entropy", "confidence"));
}

TEST(Metrics, NumbersSurviveExactly) {
  const nlohmann::json line = nlohmann::json::parse(to_json(example()));
  EXPECT_EQ(line["step"], 12);
  EXPECT_EQ(line["loss"].get<double>(), 0.1);
  EXPECT_EQ(line["tokens"].get<int64_t>(), int64_t{1} << 40);
  EXPECT_EQ(line["layers"][0]["load"][1].get<double>(), 0.75);
  EXPECT_EQ(line["layers"][0]["entropy"].get<double>(), 0.6);
  EXPECT_EQ(line["layers"][0]["confidence"].get<double>(), 0.7);
}

TEST(Metrics, WhatPayloadsLoseStandsByTheWayWhereRowsAreCompressed) {
  StepMetrics metrics = example();
  EXPECT_FALSE(nlohmann::json::parse(to_json(metrics))["layers"][0].contains("payload_error"));
  metrics.layers[0].payload_error = {{"dispatch", 0.006}, {"combine", std::numeric_limits<double>::quiet_NaN()}};
  const nlohmann::ordered_json errors = nlohmann::ordered_json::parse(to_json(metrics))["layers"][0]["payload_error"];
  EXPECT_EQ(errors.dump(), R"({"dispatch":0.006,"combine":null})");
}

TEST(Metrics, NumbersThatAreNotFiniteBecomeNull) {
  StepMetrics metrics = example();
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.gradient_norm = std::numeric_limits<double>::infinity();
  const nlohmann::json line = nlohmann::json::parse(to_json(metrics));
  EXPECT_TRUE(line["loss"].is_null());
  EXPECT_TRUE(line["gradient_norm"].is_null());
}

// So that a script that reads "loss" of every line, or cuts at a step, keeps working.
TEST(Metrics, EvaluationsAndAlarmsAreLinesOfTheirOwnThatBeginWithTheStepAndShareNoNameWithASteps) {
  const std::string heldout = to_json(HeldoutMetrics{.step = 7, .loss = 2.5, .accuracy = 0.25, .bits_per_byte = std::numeric_limits<double>::quiet_NaN()});
  const std::string alarm = to_json(Alarm{.kind = "load", .step = 9, .layer = 1, .experts = {3}, .value = 4.5, .sentence = "a \"b\""});
  EXPECT_EQ(heldout.rfind("{\"step\":7,\"kind\":\"heldout\"", 0), 0u) << heldout;
  EXPECT_EQ(alarm.rfind("{\"step\":9,\"kind\":\"alarm\"", 0), 0u) << alarm;
  const nlohmann::json line = nlohmann::json::parse(heldout);
  EXPECT_FALSE(line.contains("loss"));
  EXPECT_EQ(line["heldout_loss"], 2.5);
  EXPECT_TRUE(line["heldout_bits_per_byte"].is_null());
  EXPECT_EQ(nlohmann::json::parse(alarm)["sentence"], "a \"b\"");
}

TEST(Metrics, AWriterContinuesTheFile) {
  Scratch scratch;
  MetricsWriter(scratch.path()).write(example());
  MetricsWriter(scratch.path()).write(example());
  EXPECT_EQ(read_file(scratch.path("metrics.jsonl")), to_json(example()) + "\n" + to_json(example()) + "\n");
}

// A limit on the size of files stands in for a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  sighandler_t handler_;
};

TEST(Metrics, ALineThatDoesNotFitIsTakenBackAndReported) {
  Scratch scratch;
  MetricsWriter writer(scratch.path());
  writer.write(example());
  const std::string before = read_file(scratch.path("metrics.jsonl"));
  {
    const FileSizeLimit limit(before.size() + 10);
    try {
      writer.write(example());
      FAIL() << "a line was written beyond the limit";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kInputOutput);
      EXPECT_NE(std::string(error.what()).find("metrics.jsonl"), std::string::npos) << error.what();
    }
    EXPECT_EQ(read_file(scratch.path("metrics.jsonl")), before) << "half a line is left";
  }
  writer.write(example());
  EXPECT_EQ(read_file(scratch.path("metrics.jsonl")), before + before) << "the writer goes on once there is room";
}

TEST(Metrics, AMissingDirectoryIsAnInputOutputError) {
  Scratch scratch;
  try {
    MetricsWriter writer(scratch.path("missing"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInputOutput);
  }
}

}  // namespace
}  // namespace switchyard
