#include "src/report/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace switchyard {
namespace {

Error output_error(const char* action, const std::string& path, int number) {
  return Error(ExitCode::kInputOutput, fmt::format("cannot {} {}: {}; free some space or check the permissions", action, path, std::strerror(number)));
}

}  // namespace

AppendedFile::AppendedFile(std::string path, bool create_new) : path_(std::move(path)) {
  file_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (create_new ? O_EXCL : 0), 0666);
  if (file_ < 0) throw output_error("open", path_, errno);
}

AppendedFile::~AppendedFile() {
  if (file_ >= 0) ::close(file_);
}

void AppendedFile::append(std::string_view bytes) {
  const off_t start = ::lseek(file_, 0, SEEK_END);
  if (start < 0) throw output_error("find the end of", path_, errno);
  while (!bytes.empty()) {
    const ssize_t count = ::write(file_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int number = count == 0 ? ENOSPC : errno;
      const bool whole = ::ftruncate(file_, start) == 0;
      Error error = output_error("write to", path_, number);
      if (!whole) error = Error(error.code(), std::string(error.what()) + "; its end is only half-written");
      throw error;
    }
    bytes.remove_prefix(static_cast<size_t>(count));
  }
}

void AppendedFile::close() {
  if (::close(std::exchange(file_, -1)) != 0) throw output_error("close", path_, errno);
}

}  // namespace switchyard
