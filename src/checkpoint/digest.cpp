#include "src/checkpoint/digest.h"

#include <openssl/evp.h>

#include <cstring>
#include <map>
#include <memory>

#include "src/base/error.h"
#include "src/checkpoint/checksum.h"

namespace switchyard {

Sha256 sha256(const void* data, size_t bytes) {
  Sha256 hash;
  unsigned length = 0;
  if (EVP_Digest(data, bytes, hash.data(), &length, EVP_sha256(), nullptr) != 1 || length != hash.size())
    throw Error(ExitCode::kFailure, "SHA-256 failed in libcrypto");
  return hash;
}

std::string digest_line(const std::string& name, Dtype dtype, const Shape& shape, const std::vector<Sha256>& blocks) {
  std::string line = name + ' ' + switchyard::name(dtype) + ' ';
  for (int axis = 0; axis < shape.rank(); ++axis) line += (axis == 0 ? "" : "x") + std::to_string(shape[axis]);
  if (shape.rank() == 0) line += "scalar";
  for (const Sha256& block : blocks) line += ' ' + to_hex(block.data(), block.size());
  return line;
}

std::string digest_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + '\n';
  const Sha256 hash = sha256(text.data(), text.size());
  return to_hex(hash.data(), hash.size());
}

// Every rank knows which blocks each rank owns, so the hashes, gathered in rank order, need no labels.
std::vector<std::string> digest_lines(Communicator& communicator, const State& state) {
  check_state(state, communicator.rank(), communicator.size());
  std::vector<int64_t> owned(static_cast<size_t>(communicator.size()));
  std::vector<Sha256> mine;
  const std::vector<size_t> order = name_order(state);
  for (size_t index : order) {
    for (const StateBlock& block : state[index].blocks) {
      ++owned[static_cast<size_t>(block.owner)];
      if (block.owner == communicator.rank()) mine.push_back(sha256(block.data.data(), static_cast<size_t>(block.data.bytes())));
    }
  }
  int64_t total = 0;
  std::vector<int64_t> next;  // of each rank, in `all`
  for (int64_t count : owned) {
    next.push_back(total);
    total += count;
  }
  std::vector<Sha256> all(static_cast<size_t>(total));
  constexpr int64_t kWords = sizeof(Sha256) / sizeof(int32_t);
  communicator.all_gather({"digest"}, Tensor(mine.data(), Dtype::kI32, {static_cast<int64_t>(mine.size()), kWords}),
                          Tensor(all.data(), Dtype::kI32, {total, kWords}), owned);
  std::vector<std::string> lines;
  for (size_t index : order) {
    std::vector<Sha256> blocks;
    for (const StateBlock& block : state[index].blocks) blocks.push_back(all[static_cast<size_t>(next[static_cast<size_t>(block.owner)]++)]);
    lines.push_back(digest_line(state[index].name, state[index].dtype, state[index].shape, blocks));
  }
  return lines;
}

std::string state_digest(Communicator& communicator, const State& state) { return digest_of(digest_lines(communicator, state)); }

}  // namespace switchyard
