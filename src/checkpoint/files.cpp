#include "src/checkpoint/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

namespace switchyard {

int FileCalls::make_directory(int parent, const char* name) { return ::mkdirat(parent, name, 0777); }
int FileCalls::create(int directory, const char* name) { return ::openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666); }
int FileCalls::reserve(int file, int64_t bytes) {
  const int number = bytes == 0 ? 0 : ::posix_fallocate(file, 0, bytes);
  if (number == 0 || number == EOPNOTSUPP || number == EINVAL) return 0;  // not every file system can
  errno = number;
  return -1;
}
int64_t FileCalls::write(int file, const void* data, size_t bytes) { return ::write(file, data, bytes); }
int FileCalls::sync(int file) { return ::fsync(file); }
int FileCalls::close(int file) { return ::close(file); }
int FileCalls::rename(int directory, const char* from, const char* to, unsigned flags) { return ::renameat2(directory, from, directory, to, flags); }
int FileCalls::remove(int directory, const char* name, int flags) { return ::unlinkat(directory, name, flags); }

Descriptor::~Descriptor() {
  if (value_ >= 0) ::close(value_);
}

Error io_error(const std::string& action, const std::string& path, int number) {
  const bool full = number == ENOSPC || number == EDQUOT || number == EFBIG;
  return Error(ExitCode::kInputOutput, fmt::format("cannot {} {}: {}; {}", action, path, std::strerror(number),
                                                   full ? "free some space, or write elsewhere" : "check the file system and the permissions"));
}

bool is_safe_name(const std::string& name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
  if (name.empty() || name.size() > 128 || !letter(name[0])) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || c == '.' || c == '-'; });
}

Descriptor open_directory(const std::string& path) {
  Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) throw io_error("open the directory", path, errno);
  return directory;
}

Descriptor open_directory_at(int parent, const std::string& name) {
  Descriptor directory(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory) throw io_error("open the directory", name, errno);
  return directory;
}

Descriptor open_regular_file(int directory, const std::string& name, int64_t& bytes) {
  // Not blocking: a FIFO would wait for its other end.
  Descriptor file(::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file && errno == ELOOP) throw Error(ExitCode::kData, name + " is a link, where a regular file was expected; it is not followed");
  if (!file && errno == ENOENT) throw Error(ExitCode::kData, "the file " + name + " is missing");
  if (!file) throw io_error("open", name, errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw io_error("look at", name, errno);
  if (!S_ISREG(status.st_mode)) throw Error(ExitCode::kData, name + " is not a regular file");
  bytes = status.st_size;
  return file;
}

void read_exactly(int file, int64_t offset, void* data, int64_t bytes, const std::string& name) {
  char* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t count = ::pread(file, to, static_cast<size_t>(bytes), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw io_error("read", name, errno);
    if (count == 0) throw Error(ExitCode::kData, fmt::format("{} ends at byte {}, {} bytes too early; it is truncated", name, offset, bytes));
    to += count;
    offset += count;
    bytes -= count;
  }
}

std::string read_small_file(int directory, const std::string& name, int64_t limit) {
  int64_t bytes = 0;
  const Descriptor file = open_regular_file(directory, name, bytes);
  if (bytes > limit) throw Error(ExitCode::kData, fmt::format("{} has {} bytes, more than the {} allowed", name, bytes, limit));
  std::string text(static_cast<size_t>(bytes), '\0');
  read_exactly(file.get(), 0, text.data(), bytes, name);
  return text;
}

void write_all(FileCalls& calls, int file, const void* data, size_t bytes, const std::string& name) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const int64_t count = calls.write(file, from, bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw io_error("write", name, errno);
    if (count == 0) throw io_error("write", name, ENOSPC);
    from += count;
    bytes -= static_cast<size_t>(count);
  }
}

// Never repeated: after a failure the kernel may call pages clean that never reached the disk.
void sync_or_throw(FileCalls& calls, int file, const std::string& name) {
  if (calls.sync(file) != 0) throw io_error("bring to the disk", name, errno);
}

void close_or_throw(FileCalls& calls, Descriptor file, const std::string& name) {
  if (calls.close(file.release()) != 0) throw io_error("close", name, errno);
}

void write_new_file(FileCalls& calls, int directory, const std::string& name, const std::string& content) {
  Descriptor file(calls.create(directory, name.c_str()));
  if (!file) throw io_error("create", name, errno);
  write_all(calls, file.get(), content.data(), content.size(), name);
  sync_or_throw(calls, file.get(), name);
  close_or_throw(calls, std::move(file), name);
}

void replace_file(FileCalls& calls, int directory, const std::string& name, const std::string& content) {
  const std::string temporary = ".tmp-" + name;
  calls.remove(directory, temporary.c_str(), 0);
  try {
    write_new_file(calls, directory, temporary, content);
    if (calls.rename(directory, temporary.c_str(), name.c_str(), 0) != 0) throw io_error("rename", temporary, errno);
  } catch (...) {
    calls.remove(directory, temporary.c_str(), 0);
    throw;
  }
  sync_or_throw(calls, directory, "the directory of " + name);
}

std::vector<std::string> list_directory(int directory) {
  std::vector<std::string> names;
  Descriptor copy(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* stream = copy ? ::fdopendir(copy.get()) : nullptr;
  if (stream == nullptr) throw io_error("list", "a directory", errno);
  copy.release();
  for (const dirent* entry = ::readdir(stream); entry != nullptr; entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

void remove_directory(FileCalls& calls, int parent, const std::string& name) noexcept {
  try {
    const Descriptor directory = open_directory_at(parent, name);
    for (const std::string& file : list_directory(directory.get())) calls.remove(directory.get(), file.c_str(), 0);
  } catch (const std::exception&) {
    // What cannot be opened is left to the removal below, and to the next attempt.
  }
  if (calls.remove(parent, name.c_str(), AT_REMOVEDIR) != 0 && errno == ENOTDIR) calls.remove(parent, name.c_str(), 0);
}

}  // namespace switchyard
