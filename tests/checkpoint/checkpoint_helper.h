// What the tests of checkpoints share: a directory of their own, states with known bytes, and ways to do damage.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/memory.h"
#include "src/checkpoint/checkpoint.h"
#include "tests/ranks.h"

namespace switchyard {

// A new directory that is removed at the end.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string path(const std::string& name = "") const { return name.empty() ? root_.string() : (root_ / name).string(); }

 private:
  std::filesystem::path root_;
};

// A state of dense tensors whose blocks are spread over the ranks, small ones, and experts that belong to one rank each,
// with moments; and the memory of the blocks that `rank` owns.
struct TestState {
  State state;
  std::vector<Buffer> buffers;
};

// Bytes are a function of (seed, name, place) alone. `rotate` moves every dense block's owner on by that much.
TestState make_test_state(int rank, int ranks, uint64_t seed, int rotate = 0);
// The same names, shapes and owners, filled with other bytes.
TestState make_blank_state(int rank, int ranks, int rotate = 0);
// The state without its moments.
State weights_of(const State& state);

StateInfo test_info(int64_t step);

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& content);
// Names in a directory, sorted.
std::vector<std::string> names_in(const std::string& path);
// Names and contents of everything below a directory.
std::vector<std::pair<std::string, std::string>> snapshot(const std::string& path);

// Runs body on thread ranks and gives the errors with which they ended, in rank order; ranks that returned have none. No
// rank leaves before all are done, so that one rank's error does not hide another's.
std::vector<Error> errors_of_ranks(int ranks, const std::function<void(Communicator&)>& body);

// One rank saves a test state of this seed.
SavedCheckpoint save_one(const std::string& run, int64_t step, uint64_t seed, const SaveOptions& options = {});

}  // namespace switchyard
