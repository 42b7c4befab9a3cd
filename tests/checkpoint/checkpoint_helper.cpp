#include "tests/checkpoint/checkpoint_helper.h"

#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>

#include "comm/self.h"
#include "kernels/rng.h"

namespace switchyard {
namespace {

void add_tensor(TestState& test, const std::string& name, Dtype dtype, const Shape& shape, int rank, uint64_t seed, const std::function<int(int64_t)>& owner) {
  StateTensor tensor{name, dtype, shape, {}};
  const uint64_t key = mix64(seed ^ hash_name(name.c_str()));
  for (const BlockRange& range : blocks_of(shape)) {
    StateBlock block{range.first_row, range.rows, owner(static_cast<int64_t>(tensor.blocks.size())), {}};
    if (block.owner == rank) {
      const int64_t bytes = tensor.block_bytes(block), first = range.first_row * tensor.row_elements() * size_of(dtype);
      test.buffers.emplace_back(bytes);
      auto* data = static_cast<unsigned char*>(test.buffers.back().data());
      for (int64_t i = 0; i < bytes; ++i) {
        const uint64_t at = static_cast<uint64_t>(first + i);
        data[i] = static_cast<unsigned char>((key + at) * 0x9e3779b97f4a7c15u >> 56);
      }
      block.data = test.buffers.back().tensor(dtype, shape.rank() <= 1 ? shape : Shape{range.rows, tensor.row_elements()});
    }
    tensor.blocks.push_back(block);
  }
  test.state.push_back(std::move(tensor));
}

}  // namespace

Scratch::Scratch() {
  std::string pattern = (std::filesystem::temp_directory_path() / "switchyard-checkpoint-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make a scratch directory");
  root_ = pattern;
}

Scratch::~Scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
}

TestState make_test_state(int rank, int ranks, uint64_t seed, int rotate) {
  TestState test;
  const auto spread = [=](int64_t block) { return static_cast<int>((block + rotate) % ranks); };
  for (const char* prefix : {"", "optimizer.m.", "optimizer.v."}) {
    const std::string p = prefix;
    add_tensor(test, p + "decoder.embedding.weight", Dtype::kF32, {70, 2000}, rank, seed, spread);  // 3 blocks, the last one short
    add_tensor(test, p + "decoder.block.0.norm.scale", Dtype::kF32, {7}, rank, seed, spread);
    for (int expert = 0; expert < 3; ++expert) {
      const std::string name = p + "decoder.block.1.moe.expert." + std::to_string(expert) + ".in.weight";
      add_tensor(test, name, Dtype::kF32, expert == 1 ? Shape{130, 513} : Shape{9, 33}, rank, seed, [=](int64_t) { return expert * ranks / 3; });
    }
  }
  add_tensor(test, "router.bias", Dtype::kF64, {3}, rank, seed, spread);
  add_tensor(test, "half", Dtype::kBF16, {5, 3}, rank, seed, spread);
  add_tensor(test, "scalar", Dtype::kI32, {}, rank, seed, spread);
  return test;
}

TestState make_blank_state(int rank, int ranks, int rotate) { return make_test_state(rank, ranks, 0xb1a2c, rotate); }

State weights_of(const State& state) {
  State weights;
  std::copy_if(state.begin(), state.end(), std::back_inserter(weights), [](const StateTensor& tensor) { return tensor.name.rfind(kOptimizerPrefix, 0) != 0; });
  return weights;
}

StateInfo test_info(int64_t step) {
  StateInfo info;
  info.step = step;
  info.cursor = 17 * step;
  info.skips = step / 10;
  info.tokens = (int64_t{1} << 40) + step;
  if (step >= 2) info.best = {step / 2, 1.0 / 3, 3};
  info.seed = 0xffffffffffffffffu;
  info.config = "model { width: 8 }  # \"quoted\" \\ and\nlines\n";
  info.precision = "F32";
  info.tokenizer = "0123456789abcdef0123456789abcdef";
  info.code = "0.1.0";
  return info;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::pair<std::string, std::string>> snapshot(const std::string& path) {
  std::vector<std::pair<std::string, std::string>> all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    all.emplace_back(std::filesystem::relative(entry.path(), path).string(), entry.is_regular_file() ? read_file(entry.path().string()) : "");
  }
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<Error> errors_of_ranks(int ranks, const std::function<void(Communicator&)>& body) {
  std::vector<std::optional<Error>> found(static_cast<size_t>(ranks));
  run_ranks(ranks, [&](Communicator& comm) {
    try {
      body(comm);
    } catch (const PeerError&) {
      throw;
    } catch (const Error& error) {
      found[static_cast<size_t>(comm.rank())] = error;
    }
    comm.barrier({"test end"});
  });
  std::vector<Error> errors;
  for (const auto& error : found) {
    if (error) errors.push_back(*error);
  }
  return errors;
}

SavedCheckpoint save_one(const std::string& run, int64_t step, uint64_t seed, const SaveOptions& options) {
  const std::unique_ptr<Communicator> comm = make_self_communicator({});
  const TestState test = make_test_state(0, 1, seed);
  return save_checkpoint(*comm, run, test.state, test_info(step), options);
}

}  // namespace switchyard
