#include "src/data/output_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include "src/base/error.h"
#include "src/data/file.h"

namespace switchyard {

namespace fs = std::filesystem;

OutputFolder::OutputFolder(const std::string& output) : output_(fs::path(output).lexically_normal()) {
  if (output.empty()) throw Error(ExitCode::kUsage, "no output folder was named; name one that is absent or empty");
  if (!output_.has_filename()) output_ = output_.parent_path();
  path_ = fmt::format("{}.partial-{}", output_.string(), ::getpid());
  std::error_code error;
  if (fs::exists(output_, error) && !(fs::is_directory(output_, error) && fs::is_empty(output_, error))) {
    throw Error(ExitCode::kUsage, fmt::format("{} already holds something; name another folder or remove it first", output_.string()));
  }
  fs::create_directories(path_, error);
  if (error) throw Error(ExitCode::kInputOutput, fmt::format("cannot create folder {}: {}", path_.string(), error.message()));
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(path_, ignored);
}

void OutputFolder::commit() {
  sync_folder(path_.string());
  std::error_code error;
  fs::rename(path_, output_, error);
  if (error) throw Error(ExitCode::kInputOutput, fmt::format("cannot rename {} to {}: {}", path_.string(), output_.string(), error.message()));
  committed_ = true;
  sync_folder(output_.parent_path().string());
}

}  // namespace switchyard
