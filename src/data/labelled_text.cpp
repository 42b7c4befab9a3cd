#include "src/data/labelled_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "src/base/error.h"
#include "src/data/labelled_files.h"

namespace switchyard {

namespace {

namespace fs = std::filesystem;

constexpr const char* kUnlabelledFolder = "unsup";

// Names in a folder that are not hidden, in order.
std::vector<fs::path> entries(const std::string& folder) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (!at->path().filename().string().starts_with('.')) paths.push_back(at->path());
  }
  if (error) throw Error(ExitCode::kInputOutput, fmt::format("cannot read folder {}: {}", folder, error.message()));
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<fs::path> folders_in(const std::string& folder) {
  std::vector<fs::path> paths;
  std::error_code ignored;
  for (const fs::path& path : entries(folder)) {
    if (fs::is_directory(path, ignored)) paths.push_back(path);
  }
  return paths;
}

void read_class(const fs::path& folder, LabelledReader& reader) {
  int64_t files = 0;
  for (const fs::path& path : entries(folder.string())) {
    const std::string name = path.filename().string();
    if (!name.ends_with(".txt") && !name.ends_with(".txt.gz")) continue;
    read_text_file(path.string(), folder.filename().string(), reader);
    ++files;
  }
  if (files == 0) {
    throw Error(ExitCode::kData,
                fmt::format("folder {} holds no .txt file, but a folder of a class needs one for each text; add them or remove the folder", folder.string()));
  }
}

void read_folder(const std::string& root, LabelledReader& reader) {
  bool any = false;
  for (const fs::path& folder : folders_in(root)) {
    if (folder.filename() == kUnlabelledFolder) {
      reader.counts.left_out_unsup = true;
      continue;
    }
    any = true;
    read_class(folder, reader);
  }
  if (!any) throw Error(ExitCode::kData, fmt::format("folder {} holds no folder of a class; expected FOLDER/CLASS/*.txt", root));
}

LabelledFormat format_of(const std::string& path, LabelledFormat wanted) {
  if (wanted != LabelledFormat::kByName) return wanted;
  std::string name = fs::path(path).filename().string();
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  if (name.ends_with(".tsv")) return LabelledFormat::kTsv;
  if (name.ends_with(".csv")) return LabelledFormat::kCsv;
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson") || name.ends_with(".json")) return LabelledFormat::kJsonl;
  throw Error(ExitCode::kUsage, fmt::format("the name of {} does not tell its format, as .tsv, .csv or .jsonl would; name it with --format", path));
}

}  // namespace

LabelledFormat labelled_format_from(const std::string& name) {
  if (name == "auto") return LabelledFormat::kByName;
  if (name == "tsv") return LabelledFormat::kTsv;
  if (name == "csv") return LabelledFormat::kCsv;
  if (name == "jsonl") return LabelledFormat::kJsonl;
  throw Error(ExitCode::kUsage, fmt::format("format is \"{}\" but must be auto, tsv, csv or jsonl", name));
}

std::string LabelledExample::place() const { return line == 0 ? std::string(path) : fmt::format("{}, line {}", path, line); }

LabelledCounts read_labelled(const LabelledOptions& options, const std::function<void(const LabelledExample&)>& visit) {
  if (options.paths.empty()) throw Error(ExitCode::kUsage, "no labelled text was named; name at least one file, or a folder with one folder for each class");
  LabelledReader reader(options, visit);
  for (const std::string& path : options.paths) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) {
      read_folder(path, reader);
      continue;
    }
    switch (format_of(path, options.format)) {
      case LabelledFormat::kTsv: read_tsv(path, reader); break;
      case LabelledFormat::kCsv: read_csv(path, reader); break;
      case LabelledFormat::kJsonl: read_jsonl(path, reader); break;
      case LabelledFormat::kByName: throw InternalError("read_labelled: a format is not known");
    }
  }
  if (reader.counts.examples == 0) throw Error(ExitCode::kData, fmt::format("{} holds no example; each needs a label and a text", options.paths[0]));
  return reader.counts;
}

std::optional<std::pair<std::string, std::string>> train_and_test_folders(const std::string& folder) {
  std::error_code ignored;
  const fs::path train = fs::path(folder) / "train", test = fs::path(folder) / "test";
  if (!fs::is_directory(train, ignored) || !fs::is_directory(test, ignored)) return std::nullopt;
  if (folders_in(train.string()).empty() || folders_in(test.string()).empty()) return std::nullopt;
  return std::pair(train.string(), test.string());
}

}  // namespace switchyard
