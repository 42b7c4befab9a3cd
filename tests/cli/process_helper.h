// Runs the program as its users do: as a process.
#pragma once

#include <string>
#include <vector>

namespace switchyard {

struct Outcome {
  int code = -1;  // exit code; 128 + number if a signal ended it
  std::string out, err;
};

// The built binary with these arguments. `stdout_path`: where its standard output goes instead of Outcome::out;
// `stdin_path`: what it reads.
Outcome run_program(const std::vector<std::string>& arguments, const std::string& stdout_path = "", const std::string& stdin_path = "/dev/null");

// A folder that goes away with the object.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, const std::string& content) const;  // returns its path

 private:
  std::string path_;
};

// The path of a configuration that comes with the program.
std::string shipped_config(const std::string& name);

// Fails the test unless the outcome has this code, nothing on standard output, and one sentence on standard error. Returns it.
std::string expect_refusal(const Outcome& outcome, int code);

}  // namespace switchyard
