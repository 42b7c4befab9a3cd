// A folder that appears whole or not at all.
#pragma once

#include <filesystem>
#include <string>

namespace switchyard {

// Written beside its place under another name; commit() syncs and renames it. Without commit() it is removed.
class OutputFolder {
 public:
  // Errors: kUsage where `output` holds something; kInputOutput where no folder can be made.
  explicit OutputFolder(const std::string& output);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }  // its path until commit()
  void commit();

 private:
  std::filesystem::path output_, path_;
  bool committed_ = false;
};

}  // namespace switchyard
