// Files read at offsets, and files that appear whole or not at all.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

// A regular file, open for reading. Errors are kInputOutput and name the path.
class InputFile {
 public:
  // `what` is the kind of file in messages: "token file".
  InputFile(const std::string& path, const std::string& what);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  // Fills `into` from `offset`. A file that ends before is an Error(kData): it was cut short since its size was taken.
  void read(int64_t offset, void* into, int64_t bytes) const;
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_, what_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

// Written beside its path under a temporary name; commit() syncs it, renames it and syncs the folder. Without commit()
// it is removed. Errors are kInputOutput; fsync is never tried twice.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void append(std::string_view bytes);
  void write_at(int64_t offset, std::string_view bytes);  // inside what was appended
  void commit();
  const std::string& path() const { return path_; }

 private:
  [[noreturn]] void fail(const char* action) const;

  std::string path_, temporary_;
  int descriptor_ = -1;
};

// fsync of a folder, so that names in it last.
void sync_folder(const std::string& path);

}  // namespace switchyard
