// The images are made by the scripts that users run, and by nothing else.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
const fs::path kRoot = SWITCHYARD_SOURCE_DIR;

struct Instruction {
  std::string word, rest;
};

// The instructions of a Dockerfile; lines that end with a backslash go on.
std::vector<Instruction> read(const fs::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::vector<Instruction> all;
  std::string whole;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const bool goes_on = line.back() == '\\';
    whole += goes_on ? line.substr(0, line.size() - 1) : line;
    if (goes_on) continue;
    const size_t space = whole.find(' ');
    all.push_back({whole.substr(0, space), space == std::string::npos ? "" : whole.substr(space + 1)});
    whole.clear();
  }
  EXPECT_EQ(whole, "") << path << " ends in the middle of an instruction";
  return all;
}

std::vector<std::string> of(const std::vector<Instruction>& all, const std::string& word) {
  std::vector<std::string> rest;
  for (const Instruction& instruction : all) {
    if (instruction.word == word) rest.push_back(instruction.rest);
  }
  return rest;
}

class Docker : public testing::TestWithParam<const char*> {
 protected:
  const std::vector<Instruction> file = read(kRoot / "docker" / GetParam());
};
INSTANTIATE_TEST_SUITE_P(Images, Docker, testing::Values("cpu.Dockerfile", "cuda.Dockerfile"),
                         [](const auto& name) { return std::string(name.param).substr(0, std::string(name.param).find('.')); });

TEST_P(Docker, ConsistsOfKnownInstructionsAndBeginsWithOneBase) {
  const std::set<std::string> known = {"FROM", "WORKDIR", "COPY", "RUN", "CMD"};
  for (const Instruction& instruction : file) {
    EXPECT_TRUE(known.contains(instruction.word)) << instruction.word;
    EXPECT_NE(instruction.rest, "") << instruction.word << " without anything behind it";
  }
  ASSERT_FALSE(file.empty());
  EXPECT_EQ(file.front().word, "FROM");
  EXPECT_EQ(of(file, "FROM").size(), 1u);
  EXPECT_EQ(of(file, "FROM").front().find('/') == std::string::npos, std::string(GetParam()) == "cpu.Dockerfile") << "the base is Debian's, or NVIDIA's";
}

TEST_P(Docker, RunsTheScriptsThatUsersRunAndNothingElse) {
  const std::string build = std::string(GetParam()) == "cuda.Dockerfile" ? "launch/build.sh --preset cuda" : "launch/build.sh";
  EXPECT_EQ(of(file, "RUN"), (std::vector<std::string>{"launch/install.sh", build}));
  for (const std::string& command : of(file, "RUN")) {
    const fs::path script = kRoot / command.substr(0, command.find(' '));
    EXPECT_TRUE(fs::exists(script) && (fs::status(script).permissions() & fs::perms::owner_exec) != fs::perms::none) << script << " cannot be run";
  }
}

TEST_P(Docker, BuildsPresetsThatExist) {
  std::ifstream presets(kRoot / "CMakePresets.json");
  std::stringstream text;
  text << presets.rdbuf();
  for (const std::string& command : of(file, "RUN")) {
    const size_t place = command.find("--preset ");
    if (place == std::string::npos) continue;
    EXPECT_NE(text.str().find("\"name\": \"" + command.substr(place + 9) + "\""), std::string::npos) << command;
  }
}

}  // namespace
