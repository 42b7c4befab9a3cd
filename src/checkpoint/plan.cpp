#include "src/checkpoint/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/checked.h"

namespace switchyard {
namespace {

// Far below what the reader accepts for one file, so that a header stays below its limit with names of any length.
constexpr size_t kTensorsPerFile = 16384;

// The owner of all blocks, or -1.
int single_owner(const StateTensor& tensor) {
  if (tensor.blocks.empty()) return -1;
  const int owner = tensor.blocks[0].owner;
  const bool same = std::all_of(tensor.blocks.begin(), tensor.blocks.end(), [&](const StateBlock& block) { return block.owner == owner; });
  return same ? owner : -1;
}

}  // namespace

std::vector<int> assign_writers(const State& state, int ranks) {
  std::vector<int> writers(state.size(), -1);
  std::vector<int64_t> load(static_cast<size_t>(ranks));
  std::vector<size_t> shared;
  for (size_t index : name_order(state)) {
    writers[index] = single_owner(state[index]);
    if (writers[index] < 0) {
      shared.push_back(index);
    } else {
      load[static_cast<size_t>(writers[index])] += state[index].bytes();
    }
  }
  std::stable_sort(shared.begin(), shared.end(), [&](size_t a, size_t b) { return state[a].bytes() > state[b].bytes(); });
  for (size_t index : shared) {
    const auto least = std::min_element(load.begin(), load.end());
    writers[index] = static_cast<int>(least - load.begin());
    *least += state[index].bytes();
  }
  return writers;
}

WritePlan plan_files(const State& state, int ranks) {
  const std::vector<int> writers = assign_writers(state, ranks);
  std::vector<size_t> order = name_order(state);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return size_of(state[a].dtype) > size_of(state[b].dtype); });
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return writers[a] < writers[b]; });
  WritePlan plan;
  plan.tensors.resize(state.size());
  for (size_t index : order) {
    if (plan.files.empty() || plan.files.back().writer != writers[index] || plan.files.back().tensors.size() == kTensorsPerFile) {
      plan.files.push_back({"", writers[index], 0, {}});
    }
    PlannedFile& file = plan.files.back();
    const int64_t end = checked_add(file.data_bytes, state[index].bytes());
    plan.tensors[index] = {state[index].name, state[index].dtype, state[index].shape, plan.files.size() - 1, file.data_bytes, end, ""};
    file.tensors.push_back(index);
    file.data_bytes = end;
  }
  for (size_t i = 0; i < plan.files.size(); ++i) plan.files[i].name = fmt::format("shard-{:05d}-of-{:05d}.safetensors", i, plan.files.size());
  return plan;
}

PieceStream::PieceStream(const State& state, const WritePlan& plan, int writer, int64_t remote_bytes)
    : state_(state), writer_(writer), remote_bytes_(remote_bytes) {
  check(remote_bytes >= kPieceRow && remote_bytes % kPieceRow == 0, "PieceStream: expected whole rows of bytes");
  for (const PlannedFile& file : plan.files) {
    if (file.writer == writer) tensors_.insert(tensors_.end(), file.tensors.begin(), file.tensors.end());
  }
}

std::vector<Piece> PieceStream::next() {
  std::vector<Piece> pieces;
  int64_t room = remote_bytes_;
  while (!done()) {
    const StateTensor& tensor = state_[tensors_[tensor_]];
    if (block_ == tensor.blocks.size()) {
      ++tensor_;
      block_ = 0;
      continue;
    }
    const StateBlock& block = tensor.blocks[block_];
    int64_t bytes = tensor.block_bytes(block) - offset_;
    if (block.owner != writer_) {
      if (room == 0) break;
      bytes = std::min(bytes, room);
      room -= piece_rows(bytes) * kPieceRow;
    }
    pieces.push_back({tensors_[tensor_], block_, offset_, bytes});
    offset_ += bytes;
    if (offset_ == tensor.block_bytes(block)) {
      ++block_;
      offset_ = 0;
    }
  }
  return pieces;
}

}  // namespace switchyard
