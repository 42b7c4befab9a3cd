// Errors: one sentence and one exit code.
//
// A function that cannot do what it was asked throws Error with a sentence saying what was expected, what was found
// and what to do. main prints it and leaves with the code. Destructors never throw.
#pragma once

#include <stdexcept>
#include <string>

namespace switchyard {

// The process's exit codes, as documented in the README.
enum class ExitCode : int {
  kOk = 0,
  kFailure = 1,       // anything without a code of its own
  kUsage = 2,         // command line or configuration
  kData = 65,         // a file's content is not what it must be
  kInputOutput = 74,  // a file could not be read or written
  kPreempted = 75,    // stopped on request after a checkpoint: resume me
  kHang = 86,         // the ranks wait for one another: see which, restart from the last checkpoint
  kDoNotRestart = 93,
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// A broken promise between two parts of the program: never the user's fault.
class InternalError : public Error {
 public:
  explicit InternalError(const std::string& sentence) : Error(ExitCode::kFailure, sentence) {}
};

// Throws InternalError unless `holds`. For conditions that only a programming error can break.
inline void check(bool holds, const char* sentence) {
  if (!holds) [[unlikely]] throw InternalError(sentence);
}

}  // namespace switchyard
