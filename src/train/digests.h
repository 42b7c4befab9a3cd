// Digest files: what a run computed, in a form that two runs can be compared by. `switchyard verify` compares runs on
// different numbers of ranks and threads.
//
// A line for each step's scalars, as hexadecimal floating-point numbers, and one for each tensor, with the SHA-256 of
// every block (src/checkpoint/digest.h):
//   <step> loss <number> norm <number> tokens <number>
//   <step> <name> <dtype> <extents> <SHA-256> ...
// Gradients come first, as "gradient.<name>", then weights and optimizer state, each in name order.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "src/checkpoint/state.h"

namespace switchyard {

// Rank 0 writes; the others only take part.
class DigestWriter {
 public:
  // Throws Error(kInputOutput) on rank 0 if the file cannot be made.
  DigestWriter(Communicator& communicator, const std::string& path);

  // Collective.
  void write_scalars(int64_t step, double loss, double norm, int64_t tokens);
  void write_state(int64_t step, const State& state);
  // What has been written is in the file when it returns. Throws Error(kInputOutput).
  void close();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void line(const std::string& text);

  Communicator& communicator_;
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
};

// Where two digest files part.
struct DigestDifference {
  int64_t step = 0;     // the first step of which anything differs
  std::string scalars;  // "loss A against B", where that step's differ; else ""
  std::string tensor;   // the first tensor of all that differs; "" if none does
  int64_t tensor_step = 0;
  int64_t tensors = 0;  // how many differ in that step
  std::string sentence() const;
};

// One digest of everything a file says about gradients, weights and so on: for the table that verify prints.
struct DigestSummary {
  int64_t steps = 0;
  std::string loss, gradients, optimizer, weights;  // SHA-256, the first 16 digits
};

// Throw Error(kData) if a file is not a digest file, Error(kInputOutput) if it cannot be read.
std::optional<DigestDifference> compare_digests(const std::string& path_a, const std::string& path_b);
DigestSummary summarize_digests(const std::string& path);

}  // namespace switchyard
