// ShardWriter: the files that one rank writes, byte after byte, as they are planned.
#pragma once

#include <optional>
#include <vector>

#include "src/checkpoint/checksum.h"
#include "src/checkpoint/files.h"
#include "src/checkpoint/plan.h"

namespace switchyard {

// After its first error it does nothing more, so that its rank can go on with the collectives of the save.
class ShardWriter {
 public:
  // Nothing is created before the first append().
  ShardWriter(FileCalls& calls, int directory, const State& state, const WritePlan& plan, int writer);

  // The next bytes of a tensor.
  void append(const Piece& piece, const void* data);
  // Completes the last file.
  void finish();

  const std::optional<Error>& error() const { return error_; }
  // Of the files and of the tensors that this rank writes, in the plan's order; zeros after an error.
  const std::vector<Checksum>& file_checksums() const { return file_checksums_; }
  const std::vector<Checksum>& tensor_checksums() const { return tensor_checksums_; }

 private:
  void open_next();
  void close_current();
  const PlannedFile& current() const { return plan_.files[files_[file_ - 1]]; }
  template <class Action>
  void attempt(Action action);

  FileCalls& calls_;
  int directory_;
  const State& state_;
  const WritePlan& plan_;
  std::vector<size_t> files_;  // indices in plan_.files
  size_t file_ = 0;            // files begun
  size_t tensor_ = 0;          // of the current file: tensors completed
  int64_t tensor_bytes_ = 0;   // of the next tensor, so far
  Descriptor open_;
  ChecksumStream file_stream_, tensor_stream_;
  std::vector<Checksum> file_checksums_, tensor_checksums_;
  std::optional<Error> error_;
};

}  // namespace switchyard
