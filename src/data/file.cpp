#include "src/data/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "src/base/error.h"

namespace switchyard {

InputFile::InputFile(const std::string& path, const std::string& what) : path_(path), what_(what) {
  // Not blocking, so that a pipe nobody writes to is refused instead of waited for.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) throw Error(ExitCode::kInputOutput, fmt::format("cannot open {} {}: {}", what_, path, std::strerror(errno)));
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw Error(ExitCode::kInputOutput, fmt::format("cannot read {} {}: it is not a regular file; name a file", what_, path));
  }
  size_ = status.st_size;
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read(int64_t offset, void* into, int64_t bytes) const {
  char* target = static_cast<char*>(into);
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor_, target, static_cast<size_t>(bytes), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(ExitCode::kInputOutput, fmt::format("cannot read {} {}: {}", what_, path_, std::strerror(errno)));
    if (got == 0) {
      throw Error(ExitCode::kData, fmt::format("{} {} ends at byte {}, where {} more were expected; it was changed while it was in use, make it again", what_,
                                               path_, offset, bytes));
    }
    target += got;
    offset += got;
    bytes -= got;
  }
}

OutputFile::OutputFile(const std::string& path) : path_(path), temporary_(fmt::format("{}.partial-{}", path, ::getpid())) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor_ < 0) fail("create");
}

OutputFile::~OutputFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void OutputFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(descriptor_, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) fail("write");
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
}

void OutputFile::write_at(int64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) fail("write");
    bytes.remove_prefix(static_cast<size_t>(wrote));
    offset += wrote;
  }
}

void OutputFile::commit() {
  if (::fsync(descriptor_) != 0) fail("sync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename");
  ::close(descriptor_);
  descriptor_ = -1;
  sync_folder(std::filesystem::path(path_).parent_path().string());
}

void OutputFile::fail(const char* action) const {
  throw Error(ExitCode::kInputOutput, fmt::format("cannot {} {}: {}; nothing was left behind", action, path_, std::strerror(errno)));
}

void sync_folder(const std::string& path) {
  const std::string folder = path.empty() ? "." : path;
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
  const int reason = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!synced) throw Error(ExitCode::kInputOutput, fmt::format("cannot sync folder {}: {}", folder, std::strerror(reason)));
}

}  // namespace switchyard
