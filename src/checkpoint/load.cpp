// Loading: the newest checkpoint that is whole, into blocks whose owners may be others than those that saved it.
#include <fmt/format.h>

#include <algorithm>

#include "comm/agree.h"
#include "kernels/memory.h"
#include "src/checkpoint/broadcast.h"
#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/checksum.h"
#include "src/checkpoint/list.h"
#include "src/checkpoint/reader.h"

namespace switchyard {
namespace {

constexpr int64_t kScratchBytes = int64_t{1} << 20;

std::string describe(Dtype dtype, const Shape& shape) {
  std::string text = std::string(name(dtype)) + " [";
  for (int axis = 0; axis < shape.rank(); ++axis) text += (axis == 0 ? "" : ", ") + std::to_string(shape[axis]);
  return text + "]";
}

// The first difference, in name order, between what the checkpoint holds and what the model has; "" for none.
std::string difference(const Manifest& manifest, const State& state, bool weights_only) {
  const std::vector<size_t> order = name_order(state);
  size_t next = 0;
  for (const ManifestTensor& there : manifest.tensors) {
    if (weights_only && there.name.compare(0, kOptimizerPrefix.size(), kOptimizerPrefix) == 0) continue;
    const StateTensor* here = next < order.size() ? &state[order[next]] : nullptr;
    if (here == nullptr || there.name < here->name) return fmt::format("it has a tensor '{}' that the model lacks", there.name);
    if (here->name < there.name) break;
    if (here->dtype != there.dtype || here->shape != there.shape) {
      return fmt::format("tensor '{}' is {} in it and {} in the model", there.name, describe(there.dtype, there.shape), describe(here->dtype, here->shape));
    }
    ++next;
  }
  return next < order.size() ? fmt::format("it lacks the model's tensor '{}'", state[order[next]].name) : "";
}

// Reads a tensor from its first byte to its last, for the checksum, and keeps the blocks that this rank owns.
void read_tensor(const SafetensorsFile& file, const ManifestTensor& there, const StateTensor& tensor, int rank, Buffer& scratch) {
  ChecksumStream stream;
  int64_t at = there.begin;
  for (const StateBlock& block : tensor.blocks) {
    const int64_t end = at + tensor.block_bytes(block);
    char* own = block.owner == rank ? static_cast<char*>(block.data.data()) : nullptr;
    while (at < end) {
      const int64_t bytes = std::min(end - at, kScratchBytes);
      char* to = own != nullptr ? own : static_cast<char*>(scratch.data());
      file.read(at, to, bytes);
      stream.add(to, static_cast<size_t>(bytes));
      at += bytes;
      if (own != nullptr) own += bytes;
    }
  }
  const std::string found = to_hex(stream.value());
  if (found != there.checksum) {
    throw Error(ExitCode::kData, fmt::format("tensor '{}' has the checksum {} where the manifest says {}", there.name, found, there.checksum));
  }
}

// This rank's part. The tensors are those of the manifest.
void read_blocks(int directory, const Manifest& manifest, const State& state, int rank) {
  Buffer scratch(kScratchBytes);
  std::optional<SafetensorsFile> file;
  size_t open = 0;
  const std::vector<size_t> order = name_order(state);
  for (size_t index : file_order(manifest)) {
    const ManifestTensor& there = manifest.tensors[index];
    const auto here = std::lower_bound(order.begin(), order.end(), there.name, [&](size_t a, const std::string& name) { return state[a].name < name; });
    if (here == order.end() || state[*here].name != there.name) continue;  // a moment, where only weights are wanted
    const StateTensor& tensor = state[*here];
    if (std::none_of(tensor.blocks.begin(), tensor.blocks.end(), [&](const StateBlock& block) { return block.owner == rank; })) continue;
    if (!file || open != there.file) {
      file.emplace(open_shard(directory, manifest, there.file));
      open = there.file;
    }
    read_tensor(*file, there, tensor, rank, scratch);
  }
}

class Loading {
 public:
  Loading(Communicator& communicator, const std::string& run, State& state, const LoadOptions& options)
      : comm_(communicator), run_path_(run), state_(state), options_(options) {}

  std::optional<LoadedCheckpoint> load() {
    const std::vector<int64_t> steps = list();
    for (int64_t step : steps) {
      loaded_.directory = run_path_ + "/" + checkpoint_name(step);
      try {
        load_one(step);
        if (options_.quarantine && comm_.rank() == 0) quarantine();
        return loaded_;
      } catch (const Damage& damage) {
        damaged_.push_back(step);
        loaded_.warnings.push_back(fmt::format("checkpoint {} is damaged and was passed over: {}", loaded_.directory, damage.sentence));
      }
    }
    if (steps.empty()) return std::nullopt;
    throw AgreedError(ExitCode::kData,
                      fmt::format("none of the {} checkpoints of {} is whole; {}; restore one, or start again in another directory", steps.size(), run_path_,
                                  loaded_.warnings.front()),
                      0);
  }

 private:
  // The same on every rank: this checkpoint cannot be used, an older one may be.
  struct Damage {
    std::string sentence;
  };

  std::vector<int64_t> list() {
    std::vector<int64_t> steps;
    agree_on(comm_, {"checkpoint list"}, [&] {
      if (comm_.rank() == 0) steps = list_checkpoints(run_path_);
    });
    int64_t count = static_cast<int64_t>(steps.size());
    comm_.broadcast({"checkpoint list"}, Tensor(&count, Dtype::kI32, {2}), 0);
    steps.resize(static_cast<size_t>(count));
    comm_.broadcast({"checkpoint list"}, Tensor(steps.data(), Dtype::kI32, {count, 2}), 0);
    return steps;
  }

  // Runs on every rank; what one of them finds wrong is damage on all.
  template <class Phase>
  void damage_if_fails(Call call, Phase phase) {
    try {
      agree_on(comm_, call, phase);
    } catch (const AgreedError& error) {
      throw Damage{error.what()};
    }
  }

  void load_one(int64_t step) {
    std::string text;
    damage_if_fails({"checkpoint manifest"}, [&] {
      if (comm_.rank() != 0) return;
      const Descriptor directory = open(step);
      text = read_manifest_text(directory.get());
      sound_manifest(directory.get(), text, step);
    });
    broadcast_text(comm_, {"checkpoint manifest"}, text, 0);
    const Manifest manifest = parse_manifest(text, kManifestName);
    const std::string differs = difference(manifest, state_, options_.weights_only);
    if (!differs.empty()) {
      throw AgreedError(ExitCode::kData,
                        fmt::format("checkpoint {} is of another model: {}; use the configuration that the run was started with", loaded_.directory, differs),
                        0);
    }
    damage_if_fails({"checkpoint read"}, [&] { read_blocks(open(step).get(), manifest, state_, comm_.rank()); });
    if (!options_.weights_only) {
      const std::string digest = state_digest(comm_, state_);
      if (digest != manifest.state_digest) throw Damage{"the state digest is " + digest + " where the manifest says " + manifest.state_digest};
    }
    loaded_.info = manifest.info;
    loaded_.state_digest = manifest.state_digest;
  }

  Descriptor open(int64_t step) const { return open_directory_at(open_directory(run_path_).get(), checkpoint_name(step)); }

  // Only once an older one has proven whole: a run whose checkpoints are all damaged keeps showing them.
  void quarantine() {
    FileCalls calls;
    const Descriptor run = open_directory(run_path_);
    for (int64_t step : damaged_) quarantine_checkpoint(calls, run.get(), step);
  }

  Communicator& comm_;
  const std::string& run_path_;
  State& state_;
  const LoadOptions& options_;
  LoadedCheckpoint loaded_;
  std::vector<int64_t> damaged_;
};

}  // namespace

std::optional<LoadedCheckpoint> load_checkpoint(Communicator& communicator, const std::string& run, State& state, const LoadOptions& options) {
  check_state(state, communicator.rank(), communicator.size());
  return Loading(communicator, run, state, options).load();
}

}  // namespace switchyard
