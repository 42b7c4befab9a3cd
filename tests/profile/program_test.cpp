// switchyard profile as its users start it: on ranks of mpirun.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "comm/link_file.h"
#include "tests/profile/schema.h"
#include "tests/profile/trace_rules.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

struct Outcome {
  int code = -1;
  std::string out, err;
};

class Program : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "/switchyard-profile-XXXXXX";
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr) << folder_;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
    return path(name);
  }
  static std::string read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // switchyard profile with these arguments, on so many ranks.
  Outcome run(int ranks, const std::string& arguments) const {
    const std::string launcher = ranks == 1 ? "" : SWITCHYARD_SOURCE_DIR "/launch/local.sh " + std::to_string(ranks) + " ";
    const std::string command = launcher + SWITCHYARD_BINARY " profile " + arguments + " </dev/null >" + path("out") + " 2>" + path("err");
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(path("out")), read(path("err"))};
  }
  // Fails unless the program refused with this code and one sentence. Returns it.
  std::string refusal(int code, const std::string& arguments) const {
    const Outcome outcome = run(2, arguments);
    EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
    EXPECT_EQ(outcome.out, "");
    std::istringstream lines(outcome.err);
    std::string line, sentence;
    int sentences = 0;
    while (std::getline(lines, line)) {
      if (!line.starts_with("switchyard: ")) continue;  // mpirun says something, too
      sentence = line;
      ++sentences;
    }
    EXPECT_EQ(sentences, 1) << arguments << "\n" << outcome.err;
    return sentence;
  }

  std::string tiny() const { return SWITCHYARD_SOURCE_DIR "/configs/lm_tiny.textproto --set threads=1 --trace " + path("trace.json"); }

 private:
  std::string folder_;
};

TEST_F(Program, SweepChecksEveryTransportAndKeepsItsSchema) {
  const Outcome outcome = run(2, "alltoall --sizes 4KiB:64KiB --iterations 8 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_EQ(schema_violation("alltoall.schema.json", report), "");
  EXPECT_EQ(report["ranks"], 2);
  std::set<std::string> transports;
  for (const json& row : report["results"]) {
    transports.insert(row["transport"]);
    EXPECT_EQ(row["wrong"], 0) << row.dump();
    EXPECT_GT(row["bus_bw"].get<double>(), 0) << row.dump();
    EXPECT_NEAR(row["bus_bw"].get<double>(), row["wire_within_bw"].get<double>(), 1e-6) << "on one host all but own rows cross its links";
    EXPECT_LE(row["time_us"]["p50"].get<double>(), row["time_us"]["p99"].get<double>());
  }
  EXPECT_TRUE(transports.contains("mpi-alltoallv"));
  EXPECT_TRUE(transports.contains("MPI"));
  EXPECT_EQ(report["results"].size(), 3 * transports.size());
  EXPECT_EQ(report["fit"].size(), transports.size());
}

// How near the fit comes is tested on clocks of its own (sweep_test.cpp): this one depends on who else uses the machine.
TEST_F(Program, SweepOverAnEmulatedLinkTakesAtLeastItsTimeAndWritesALinkFile) {
  write_link_file(path("emulated.json"), {{{2e-3, 1e8}, {3e-3, 5e7}}, 0});
  const std::string files = " --emulate " + path("emulated.json") + " --link " + path("emulated.json") + " --fit " + path("fit.json");
  const Outcome outcome = run(2, "alltoall --transport MPI --sizes 64KiB:1MiB --iterations 3 --warm-up 1 --json" + files);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  ASSERT_EQ(report["results"].size(), 3u);
  for (const json& row : report["results"]) {
    EXPECT_NEAR(row["predicted_us"].get<double>(), 2e3 + row["pair_bytes"].get<double>() / 100, 0.01) << "a message of 2 ms and 100 MB/s";
    EXPECT_GE(row["time_us"]["min"].get<double>(), 0.99 * row["predicted_us"].get<double>()) << row.dump();
  }
  const LinkFile fitted = read_link_file(path("fit.json"));
  EXPECT_LE(fitted.model.within_host.bytes_per_second, 1e9);
  EXPECT_EQ(fitted.model.between_hosts.bytes_per_second, fitted.model.within_host.bytes_per_second) << "not measured: as the other kind";

  write_link_file(path("emulated.json"), {{{2e-3, 1e8}, {3e-3, 5e7}}, 1});
  const Outcome far = run(2, "alltoall --transport MPI --sizes 64KiB --iterations 3 --json" + files);
  ASSERT_EQ(far.code, 0) << far.err;
  const json row = json::parse(far.out)["results"][0];
  EXPECT_NEAR(row["predicted_us"].get<double>(), 3e3 + 65536 / 50.0, 0.01) << "each rank is a host";
  EXPECT_GE(row["time_us"]["min"].get<double>(), 0.99 * row["predicted_us"].get<double>());
  EXPECT_GT(row["wire_between_bw"].get<double>(), 0);
}

TEST_F(Program, SweepTakesAMatrixAndPrintsCsvOrText) {
  write("matrix", "0 100000\n32 0\n");
  const Outcome text = run(2, "alltoall --transport MPI --iterations 2 --pattern matrix:" + path("matrix"));
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("# Out of bounds values : 0 OK"));
  const Outcome csv = run(2, "alltoall --transport MPI --iterations 2 --csv --pattern matrix:" + path("matrix"));
  ASSERT_EQ(csv.code, 0) << csv.err;
  EXPECT_THAT(csv.out, HasSubstr("\nMPI,all,100000,0,100032,"));
}

TEST_F(Program, OneRankMeasuresItsOwnCopy) {
  const Outcome outcome = run(1, "alltoall --sizes 64KiB --iterations 4 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json report = json::parse(outcome.out);
  EXPECT_EQ(schema_violation("alltoall.schema.json", report), "");
  EXPECT_EQ(report["results"][0]["transport"], "SELF");
  EXPECT_EQ(report["results"][0]["wrong"], 0);
  EXPECT_TRUE(report["fit"].empty());
}

TEST_F(Program, SharesOfAStepAddUpToTheMeasuredStep) {
  for (const int ranks : {1, 2, 3}) {
    const Outcome outcome = run(ranks, "step " + tiny() + " --steps 5 --json");
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const json report = json::parse(outcome.out);
    EXPECT_EQ(schema_violation("step.schema.json", report), "");
    double sum = 0, rest = 0;
    std::set<std::string> names;
    for (const json& part : report["parts"]) {
      sum += part["share_pct"].get<double>();
      names.insert(part["name"]);
      if (part["name"] == "rest") rest = part["share_pct"];
      EXPECT_GE(part["seconds"].get<double>(), 0) << part.dump();
    }
    EXPECT_NEAR(sum, 100, 3) << ranks << " ranks: the parts do not make up the step\n" << outcome.out;
    EXPECT_LT(rest, 50) << ranks << " ranks: most of the step has no name";
    for (const char* name : {"dispatch", "experts", "combine", "moe", "router", "gradient sum", "publish", "attention", "control", "input"}) {
      EXPECT_TRUE(names.contains(name)) << name << " is missing on " << ranks << " ranks";
    }
    for (int from = 0; from < ranks; ++from) {
      for (int to = 0; to < ranks; ++to) EXPECT_GT(report["bytes"]["exchange"][static_cast<size_t>(from)][static_cast<size_t>(to)].get<double>(), 0);
    }
    const json trace = json::parse(read(path("trace.json")));
    const TraceRules rules(trace.at("traceEvents"));
    EXPECT_EQ(rules.violation(), "") << ranks << " ranks";
    EXPECT_EQ(rules.processes(), static_cast<size_t>(ranks));
    EXPECT_EQ(rules.slices("step 3"), static_cast<size_t>(ranks)) << "the first step after the warm-up";
    // lm_tiny: one MoE layer, 8 lanes of 2 micro-batches, so that each rank makes 2 * ceil(8 / P) trips there and back, twice.
    const size_t trips = 5 * 2 * static_cast<size_t>((8 + ranks - 1) / ranks) * static_cast<size_t>(ranks);
    EXPECT_EQ(rules.flows("dispatch", "combine"), trips);
    EXPECT_EQ(rules.flows("combine backward", "dispatch backward"), trips);
  }
}

TEST_F(Program, WhatIfNamesTheLinksThatItAssumes) {
  write_link_file(path("slow.json"), {{{1e-6, 1e10}, {10e-3, 1e6}}, 0});
  const Outcome near = run(2, "step " + tiny() + " --steps 2 --json --link " + path("slow.json"));
  const Outcome far = run(2, "step " + tiny() + " --steps 2 --json --ranks-per-host 1 --link " + path("slow.json") + " --matrix " + path("matrix"));
  ASSERT_EQ(near.code, 0) << near.err;
  ASSERT_EQ(far.code, 0) << far.err;
  const json within = json::parse(near.out), between = json::parse(far.out);
  EXPECT_EQ(schema_violation("step.schema.json", between), "");
  EXPECT_EQ(between["what_if"]["hosts"], (json{0, 1}));
  // 48 exchanges of 10 ms and more, of which nothing is hidden.
  EXPECT_GT(between["what_if"]["step_seconds"].get<double>(), 0.4);
  EXPECT_LT(within["what_if"]["step_seconds"].get<double>(), between["what_if"]["step_seconds"].get<double>());
  const Outcome replayed = run(2, "alltoall --transport MPI --iterations 2 --pattern matrix:" + path("matrix"));
  EXPECT_EQ(replayed.code, 0) << replayed.err;
}

TEST_F(Program, HelpDescribesBothHalves) {
  EXPECT_THAT(run(1, "--help").out, HasSubstr("alltoall"));
  EXPECT_THAT(run(1, "alltoall --help").out, HasSubstr("--pattern"));
  EXPECT_THAT(run(1, "step --help").out, HasSubstr("--link"));
}

TEST_F(Program, MistakesAreOneSentence) {
  write("garbage", "{");
  write("short", "1 2 3");
  EXPECT_THAT(refusal(2, "alltoall --sizes 4KB"), HasSubstr("no size"));
  EXPECT_THAT(refusal(2, "alltoall --pattern even"), HasSubstr("--pattern"));
  EXPECT_THAT(refusal(2, "alltoall --transport CARRIER_PIGEON"), HasSubstr("--transport must be all, or of"));
  EXPECT_THAT(refusal(2, "alltoall --pairs between"), HasSubstr("several hosts"));
  EXPECT_THAT(refusal(65, "alltoall --pattern matrix:" + path("short")), HasSubstr("has 3 numbers where 2 ranks need 4"));
  EXPECT_THAT(refusal(74, "alltoall --pattern matrix:" + path("nowhere")), HasSubstr("nowhere"));
  EXPECT_THAT(refusal(65, "alltoall --link " + path("garbage")), HasSubstr("garbage"));
  EXPECT_THAT(refusal(74, "step " + tiny() + " --link " + path("nowhere")), HasSubstr("nowhere"));
  EXPECT_THAT(refusal(74, "alltoall --sizes 4KiB --iterations 1 --fit " + path("no/such/folder")), HasSubstr("no/such/folder"));
  EXPECT_THAT(refusal(2, "step " + tiny() + " --steps 0"), HasSubstr("--steps"));
  EXPECT_THAT(refusal(74, "step " + path("nowhere.textproto")), HasSubstr("nowhere.textproto"));
}

}  // namespace
}  // namespace switchyard
