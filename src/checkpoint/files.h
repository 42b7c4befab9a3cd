// Files, written so that an error is never overlooked and read so that nothing outside the directory is touched.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "src/base/error.h"

namespace switchyard {

// The system calls that change files, each like the call it stands for: -1 and errno on failure. A test derives from it
// to make one of them fail.
class FileCalls {
 public:
  virtual ~FileCalls() = default;
  virtual int make_directory(int parent, const char* name);  // mkdirat
  virtual int create(int directory, const char* name);       // openat, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW
  virtual int reserve(int file, int64_t bytes);              // posix_fallocate from 0, error in errno
  virtual int64_t write(int file, const void* data, size_t bytes);
  virtual int sync(int file);  // fsync
  virtual int close(int file);
  virtual int rename(int directory, const char* from, const char* to, unsigned flags);  // renameat2
  virtual int remove(int directory, const char* name, int flags);                       // unlinkat
};

// An open file descriptor. The destructor closes it without a word; close a written file through FileCalls.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~Descriptor();

  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }
  explicit operator bool() const { return value_ >= 0; }

 private:
  int value_;
};

// Error(kInputOutput): "cannot <action> <path>: <what errno means>; <advice>".
Error io_error(const std::string& action, const std::string& path, int number);

// Names that a checkpoint may give to its files: [A-Za-z0-9_][A-Za-z0-9._-]{0,127}.
bool is_safe_name(const std::string& name);

// Throws Error(kInputOutput) if it is not there; a link is not followed in the last part of a name below `parent`.
Descriptor open_directory(const std::string& path);
Descriptor open_directory_at(int parent, const std::string& name);
// A regular file below `directory`, for reading; never follows a link. Throws Error(kData) if it is not one.
Descriptor open_regular_file(int directory, const std::string& name, int64_t& bytes);

// All `bytes` from `offset`. Throws Error(kData) if the file ends earlier, Error(kInputOutput) if reading fails.
void read_exactly(int file, int64_t offset, void* data, int64_t bytes, const std::string& name);
// A whole file of at most `limit` bytes below `directory`. Throws Error(kData) if it is larger.
std::string read_small_file(int directory, const std::string& name, int64_t limit);

// Writes all of it, or throws Error(kInputOutput).
void write_all(FileCalls& calls, int file, const void* data, size_t bytes, const std::string& name);
void sync_or_throw(FileCalls& calls, int file, const std::string& name);
// Closes even where it throws.
void close_or_throw(FileCalls& calls, Descriptor file, const std::string& name);

// Creates `name` with this content, on the disk when it returns. Throws Error(kInputOutput); the file may then exist.
void write_new_file(FileCalls& calls, int directory, const std::string& name, const std::string& content);
// Replaces `name` as a whole: a reader, and a crash, sees the old content or the new.
void replace_file(FileCalls& calls, int directory, const std::string& name, const std::string& content);

// Names of what a directory holds, sorted, without "." and "..".
std::vector<std::string> list_directory(int directory);

// Removes a directory and the files in it, or a file; links are removed, not followed. One level. Errors are ignored.
void remove_directory(FileCalls& calls, int parent, const std::string& name) noexcept;

}  // namespace switchyard
