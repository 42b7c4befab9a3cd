// The tree keeps its floors: every #include of one folder's file is allowed by the table in the root README.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Table = std::map<std::string, std::set<std::string>>;

const fs::path kRoot = SWITCHYARD_SOURCE_DIR;

std::vector<std::string> lines_of(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// Rows "| `folder` | `a`, `b` |" between the markers of the README.
Table read_table() {
  Table table;
  bool inside = false;
  const std::regex name("`([^`]+)`");
  for (const std::string& line : lines_of(kRoot / "README.md")) {
    if (line.find("<!-- includes -->") != std::string::npos) inside = true;
    if (line.find("<!-- /includes -->") != std::string::npos) inside = false;
    if (!inside || !line.starts_with("| `")) continue;
    std::vector<std::string> names;
    for (std::sregex_iterator match(line.begin(), line.end(), name), end; match != end; ++match) names.push_back((*match)[1]);
    table[names.front()] = {names.begin() + 1, names.end()};
  }
  return table;
}

const std::vector<const char*> kProduction = {"src", "kernels", "comm"};

std::vector<fs::path> sources(std::vector<const char*> tops = kProduction) {
  std::vector<fs::path> paths;
  for (const char* top : tops) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(kRoot / top)) {
      const std::string extension = entry.path().extension();
      if (extension == ".h" || extension == ".cpp" || extension == ".cu" || extension == ".cuh") paths.push_back(entry.path());
    }
  }
  return paths;
}

// The emulated GPU is as large as a floor of its own, and keeps its rules.
std::vector<fs::path> sources_with_emulation() {
  std::vector<const char*> tops = kProduction;
  tops.push_back("tests/cuda_emulation");
  return sources(tops);
}

std::string folder_of(const fs::path& path) { return fs::relative(path, kRoot).parent_path().string(); }

TEST(Tree, EveryIncludeIsAllowedByTheTableInTheReadme) {
  const Table table = read_table();
  ASSERT_FALSE(table.empty()) << "README.md has no rows between <!-- includes --> and <!-- /includes -->";
  const std::regex include("^\\s*#\\s*include\\s+\"([^\"]+)\"");
  for (const fs::path& path : sources_with_emulation()) {
    const std::string folder = folder_of(path);
    ASSERT_TRUE(table.contains(folder)) << folder << " has no row in the table of README.md";
    for (const std::string& line : lines_of(path)) {
      std::smatch match;
      if (!std::regex_search(line, match, include)) continue;
      const std::string target = fs::path(match[1].str()).parent_path().string();
      EXPECT_TRUE(target == folder || table.at(folder).contains(target)) << fs::relative(path, kRoot) << " includes \"" << match[1] << "\", but " << folder
                                                                         << " may not look at " << target << " (table in README.md)";
    }
  }
}

TEST(Tree, TheTableHasNoCycle) {
  const Table table = read_table();
  std::set<std::string> below;  // folders whose every dependency is below already
  for (size_t round = 0; round <= table.size(); ++round) {
    for (const auto& [folder, targets] : table) {
      bool ready = true;
      for (const std::string& target : targets) ready = ready && below.contains(target);
      if (ready) below.insert(folder);
    }
  }
  for (const auto& [folder, targets] : table) EXPECT_TRUE(below.contains(folder)) << folder << " lies on a cycle, or names a folder without a row";
}

TEST(Tree, NoFileIsLongerThanFourHundredLines) {
  for (const fs::path& path : sources_with_emulation()) EXPECT_LE(lines_of(path).size(), 400u) << fs::relative(path, kRoot) << ": two rooms in one?";
}

TEST(Tree, NothingBelowTrainWritesToTheTerminal) {
  const std::regex writes("std::(cout|cerr|clog)|spdlog::|fmt::print\\(|\\bprintf\\(|std::puts");
  for (const fs::path& path : sources()) {
    const std::string folder = folder_of(path);
    if (folder == "src/train" || folder == "src/report" || folder == "src/profile" || folder == "src/cli") continue;
    for (const std::string& line : lines_of(path)) EXPECT_FALSE(std::regex_search(line, writes)) << fs::relative(path, kRoot) << ": " << line;
  }
}

TEST(Tree, EveryFolderOfSourcesHasAReadme) {
  std::set<std::string> folders;
  for (const fs::path& path : sources()) folders.insert(folder_of(path));
  for (const std::string& folder : folders) EXPECT_TRUE(fs::exists(kRoot / folder / "README.md")) << folder << " has no README.md";
}

}  // namespace
