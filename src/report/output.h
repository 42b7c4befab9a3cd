// Files that grow while a run goes on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "src/base/error.h"

namespace switchyard {

// Appends whole pieces: one that cannot be written completely is taken back and Error(kInputOutput) is thrown. Nothing
// is buffered in the process; nothing is forced to the disk.
class AppendedFile {
 public:
  // `create_new`: the file must not exist yet; else it is continued where it ends. Throws Error(kInputOutput).
  AppendedFile(std::string path, bool create_new);
  ~AppendedFile();
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;

  void append(std::string_view bytes);
  // Throws Error(kInputOutput) if the system says so; for files that are complete.
  void close();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int file_ = -1;
};

}  // namespace switchyard
