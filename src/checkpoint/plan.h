// Who writes what. Pure functions of the state's names, shapes and owners and of the number of ranks, computed alike on
// every rank; nothing here communicates.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/checkpoint/manifest.h"
#include "src/checkpoint/state.h"

namespace switchyard {

// The rank that writes each tensor. One whose blocks have one owner is written by it and does not travel; the others go,
// the largest first, to the rank with the fewest bytes so far.
std::vector<int> assign_writers(const State& state, int ranks);

struct PlannedFile {
  std::string name;  // "shard-00000-of-00003.safetensors"
  int writer = 0;
  int64_t data_bytes = 0;
  std::vector<size_t> tensors;  // indices in the state, in the order of their bytes
};

struct WritePlan {
  std::vector<PlannedFile> files;       // by writer
  std::vector<ManifestTensor> tensors;  // of state[i]; without checksum
};

// Every tensor in exactly one file; a file's tensors by falling size of their elements, then by name.
WritePlan plan_files(const State& state, int ranks);

// A part of a block, on its way into a file.
struct Piece {
  size_t tensor = 0;
  size_t block = 0;
  int64_t offset = 0;  // bytes in the block
  int64_t bytes = 0;
};

// The bytes that one writer writes, in order, cut into rounds: in a round at most `remote_bytes` come from other ranks,
// each piece counted in whole rows of kPieceRow bytes.
inline constexpr int64_t kPieceRow = 64;
constexpr int64_t piece_rows(int64_t bytes) { return (bytes + kPieceRow - 1) / kPieceRow; }

class PieceStream {
 public:
  // `remote_bytes` is a multiple of kPieceRow, at least one.
  PieceStream(const State& state, const WritePlan& plan, int writer, int64_t remote_bytes);
  bool done() const { return tensor_ == tensors_.size(); }
  // The pieces of the next round; none after the last.
  std::vector<Piece> next();

 private:
  const State& state_;
  int writer_;
  int64_t remote_bytes_;
  std::vector<size_t> tensors_;  // of all files of this writer
  size_t tensor_ = 0, block_ = 0;
  int64_t offset_ = 0;
};

}  // namespace switchyard
