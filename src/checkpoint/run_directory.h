// The directory of a run: one run at a time, nothing overwritten by accident.
//
//   run.lock  config.textproto  metrics.jsonl  events/  trace.json  step-000001200/ ...
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "src/checkpoint/files.h"

namespace switchyard {

// Held by rank 0 while a run trains. The lock goes with the object, and with the process.
class RunDirectory {
 public:
  // Creates the directory where it is missing (parents too), locks it, and removes what earlier attempts left
  // half-written. Throws Error(kUsage) if another run holds the lock for longer than `wait_seconds`, or if the directory
  // holds a run and `resume` is false; Error(kInputOutput) if it cannot be made.
  RunDirectory(std::string path, bool resume, double wait_seconds);

  const std::string& path() const { return path_; }
  bool has_checkpoints() const;

  // config.textproto, replaced as a whole.
  void store_config(const std::string& text);
  // Keeps the lines of metrics.jsonl whose "step" is at most `step`; also drops a last line without its end.
  void cut_metrics(int64_t step);
  // The text of a file of this run that was replaced as a whole, "" where it is missing.
  std::string read_config() const;

 private:
  std::string path_;
  Descriptor directory_;
  Descriptor lock_;
};

// Opens the directory on rank 0; the other ranks get null. Collective: all return, or all throw the same Error.
std::unique_ptr<RunDirectory> open_run(Communicator& communicator, const std::string& path, bool resume, double wait_seconds = 5);

}  // namespace switchyard
